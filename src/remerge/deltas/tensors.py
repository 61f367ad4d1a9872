"""A model's tensors: by name, low-rank or dense, tied to each other, in layers, read piece by piece."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from remerge.errors import Diverged

PIECE = {"cpu": 1 << 17, "cuda": 1 << 24}
"""Entries of one expert in a piece, by device: on a CPU, T of them stay in its cache."""


@dataclass(frozen=True)
class LowRank:
    """A weight delta ``scaling · B A`` as its factors, as LoRA trains it (``alpha / r``, or ``alpha / √r``).

    Attributes:
        B: ``[n, r]``, or ``[T, n, r]`` for T deltas that share A.
        A: ``[r, m]``, or ``[T, r, m]`` for T deltas that share B.
        scaling: a factor on the product.
    """

    B: Tensor
    A: Tensor
    scaling: float = 1.0

    @property
    def shape(self) -> torch.Size:
        """The shape of the product, without a leading T."""
        return torch.Size((self.B.shape[-2], self.A.shape[-1]))

    @property
    def T(self) -> "LowRank":
        """The transposed delta."""
        return LowRank(self.A.mT, self.B.mT, self.scaling)

    def to(self, device: torch.device) -> "LowRank":
        """The same on a device."""
        return LowRank(self.B.to(device), self.A.to(device), self.scaling)

    def dense(self) -> Tensor:
        """The product, float32."""
        return (self.B.float() @ self.A.float()).mul_(self.scaling)


Value = Tensor | LowRank

State = Mapping[str, Tensor]
"""A model's tensors by name."""


@contextmanager
def without_tf32() -> Iterator[None]:
    """Products in float32, whatever models compute in: in TF32, small singular values would be noise."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


class Scratch:
    """A buffer that is reused for every piece: fresh memory costs more than the computation in it."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._buffer: Tensor | None = None

    def __call__(self, like: Tensor, *leading: int) -> Tensor:
        """The buffer in the shape of a piece, with leading dimensions; its contents are arbitrary."""
        shape = (*leading, *like.shape)
        entries = math.prod(shape)
        if self._buffer is None or self._buffer.numel() < entries or self._buffer.device != like.device:
            self._buffer = torch.empty(entries, dtype=self.dtype, device=like.device)
        return self._buffer[:entries].view(shape)


def places(tensor: Tensor, times: int = 1, whole: int = 1) -> Iterator[slice]:
    """The pieces of a tensor's flat entries, in multiples of ``whole`` entries.

    They depend only on its size and device.
    """
    wanted, d = times * PIECE.get(tensor.device.type, PIECE["cuda"]), tensor.numel()
    step = max(wanted // whole, 1) * whole
    for start in range(0, d, step):
        yield slice(start, min(start + step, d))


def some_rows(matrix: Tensor, times: int = 1) -> Iterator[slice]:
    """The rows of a matrix, some at a time, in order, in pieces as in `places`."""
    width = matrix.shape[1]
    for where in places(matrix, times, whole=width):
        yield slice(where.start // width, where.stop // width)


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: its transformer block, or ``other``.

    A block is the shortest prefix that ends in a number, ``model.layers.3`` or
    ``encoder.block.3``. Embeddings, final norm and head are a layer of their own.
    """
    block = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
    return block.group() if block else "other"


def aliases(state: State) -> dict[str, str]:
    """The names that a model ties to an earlier name: both share the same memory."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in state.items():
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if first.setdefault(place, name) != name:
                tied[name] = first[place]
    return tied


def finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite."""
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())


def added(theta_0: Tensor, delta: Tensor) -> Tensor:
    """theta_0 plus a delta in float32: float32, or float64 where theta_0 is.

    Neither is overwritten, since a method may give one tensor twice, or one of the base's.
    """
    return torch.add(theta_0, delta)


def rounded(name: str, theta: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in the dtype in which it is written.

    Raises:
        Diverged: it has a number that the dtype cannot hold: float16 ends at 65,504.
    """
    made = theta.to(dtype)
    if dtype != theta.dtype and not finite(made) and finite(theta):
        raise Diverged(
            f"{name}: too large for {dtype_name(dtype)}: use smaller coefficients, or another dtype"
        )
    return made


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as configurations and people write it: ``bfloat16``."""
    return str(dtype).removeprefix("torch.")
