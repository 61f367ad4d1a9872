"""Random masks that depend only on the seed, the expert, the tensor and the entry."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


def drawn(
    probability: float | Tensor, seed: int, experts: Sequence[str], name: str, start: int, n: int
) -> Tensor:
    """1 with the probability, else 0: float32 ``[T, n]`` on the CPU.

    Philox is a counter-based generator: its key is a hash of seed, expert and tensor, its counter the entry.
    So the order of experts or tensors, the size of pieces and the device do not matter.

    Args:
        probability: the probability of a 1: one for all, or for each expert (``[T, 1]``), or each entry.
        seed: the seed.
        experts: the experts' names.
        name: the tensor's name.
        start: the position of the first entry in the tensor, a multiple of 8.
        n: the number of entries.
    """
    rates: Any = probability.numpy() if isinstance(probability, Tensor) else [probability] * len(experts)
    mask = np.empty((len(experts), n), dtype=np.float32)
    for row, expert, p in zip(mask, experts, rates, strict=True):
        words = np.random.Philox(key=_key(seed, expert, name), counter=start // 8).random_raw(-(-n // 2))
        bound = (np.asarray(p, dtype=np.float64) * 2**32 - 1).astype(np.uint32)
        np.less_equal(words.view(np.uint32)[:n], bound, out=row)
    return torch.from_numpy(mask)


@lru_cache(maxsize=1024)
def _key(seed: int, expert: str, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{expert}\0{name}".encode()).digest()[:16], "little")
