"""Pretrain a miniature base on the corpus."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from remerge.miniature.architectures import ARCHITECTURES, Architecture, Batch, Size
from remerge.miniature.training import train
from remerge.miniature.vocabulary import tokenizer


def pretrain(
    out: Path,
    *,
    architecture: str = "qwen2",
    seed: int = 0,
    steps: int = 2400,
    hidden: int = 128,
    layers: int = 3,
    heads: int = 4,
    intermediate: int = 256,
    learning_rate: float = 3e-3,
    batch_size: int = 64,
    threads: int = 2,
) -> dict[str, Any]:
    """Train a model of an architecture from scratch and save it, with its tokenizer, to `out`."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    kind, words = ARCHITECTURES[architecture], tokenizer(architecture)
    model = kind.build(words, Size(hidden, layers, heads, intermediate))
    documents = kind.stream(seed, int(kind.opening * steps) * batch_size)
    tokens = 0

    def losses() -> Iterator[Tensor]:
        nonlocal tokens
        for batch in _batches(kind, documents, words, batch_size, seed):
            tokens += int((batch[-1] > 0).sum())
            yield kind.loss(model, batch)

    loss = train(model, losses(), steps, learning_rate)
    model.save_pretrained(out)
    words.save_pretrained(out)
    return {"steps": steps, "tokens": tokens, "loss": loss}


def _batches(
    kind: Architecture, documents: Iterator[Any], words: PreTrainedTokenizerFast, size: int, seed: int
) -> Iterator[Batch]:
    """Batches of documents with similar lengths."""
    rng = Random(f"batches {seed}")
    while True:
        pool = list(islice(documents, 8 * size))
        pool.sort(key=kind.length)
        chunks = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            yield kind.batch(chunk, words, rng)
