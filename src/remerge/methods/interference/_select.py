"""The k-th largest magnitude of a stream, exactly, in about one pass and without sorting."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remerge.deltas import Deltas

Stream = Callable[[], Iterable[Tensor]]
"""Gives the pieces ``[T, n]`` of T long vectors, from the start at every call."""


def thresholds(deltas: Deltas, shares: Sequence[float], names: Sequence[str]) -> Tensor:
    """The magnitude of the ``int(share_t · n)``-th largest of expert t's n entries in ``names``, ``[T]``."""
    n = sum(deltas.base[name].numel() for name in names)
    found = torch.zeros(len(shares))
    for share in sorted({*shares} if n else {}):
        alike = [t for t, own in enumerate(shares) if own == share]
        some = deltas if len(alike) == len(shares) else deltas.subset([deltas.experts[t] for t in alike])
        found[alike] = _kth(some, max(1, int(share * n)), n, names)
    return found


def _kth(deltas: Deltas, k: int, n: int, names: Sequence[str]) -> Tensor:
    """The k-th largest magnitude of each expert's n entries in ``names``, ``[T]``."""
    return kth_largest(
        lambda: (tau for name in names for _, tau in deltas.pieces(name)),
        lambda: deltas.sample(names),
        k,
        n,
    )


def kth_largest(stream: Stream, sample: Callable[[], Tensor], k: int, n: int) -> Tensor:
    """The k-th largest magnitude of each of T vectors of n entries, ``[T]``.

    A random sample brackets it to within six standard deviations (Floyd and Rivest, 1975); one pass then
    counts the magnitudes above the bracket and gathers the few inside it. If the sample misled, or the
    stream rounds differently, the bracket is widened.

    Args:
        stream: the vectors in pieces, which are overwritten.
        sample: some of their entries, ``[T, m]``; asked for only if n is large.
        k: the rank, from 1.
        n: the number of entries of a vector.
    """
    drawn = sample().abs() if n > 1 << 13 else torch.empty(0)
    deviations = 6.0
    while True:
        low, high = _bracket(drawn, k / n, deviations)
        tallies: list[_Tally] = []
        for piece in stream():
            tallies = (
                tallies
                or [_Tally(a, b) for a, b in zip(low, high, strict=True)]
                or [_Tally(-1.0, math.inf) for _ in piece]
            )
            for x, tally in zip(piece.abs_(), tallies, strict=True):
                tally.add(x)
        found = [tally.ranked(k) for tally in tallies]
        if None not in found or not low:
            # Only NaN can escape the widest bracket; the merge itself reports it.
            return torch.tensor([f or 0.0 for f in found])
        deviations *= 8


def _bracket(drawn: Tensor, share: float, deviations: float) -> tuple[list[float], list[float]]:
    """The bounds around each vector's k-th largest magnitude, from its sample; empty for no bounds."""
    m = drawn.shape[-1]
    # The whole sum grows with the deviations: at a share of 1 the spread is 0 and could not.
    margin = deviations * (math.sqrt(share * (1 - share) * m) + 1 / 6)
    first, last = math.floor(share * m - margin), math.ceil(share * m + margin)
    if first < 0 and last >= m:
        return [], []
    low = drawn.kthvalue(m - last, dim=1).values.tolist() if last < m else [-1.0] * len(drawn)
    high = drawn.kthvalue(m - first, dim=1).values.tolist() if first >= 0 else [math.inf] * len(drawn)
    return low, high


class _Tally:
    """Counts of magnitudes above, at and inside a bracket; ties at its ends are counted, not kept."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.above = self.from_high = self.from_low = self.gathered = 0
        self.inside = torch.empty(0)

    def add(self, x: Tensor) -> None:
        """Add magnitudes ``[n]``."""
        # Numpy compares and compresses several times faster than torch on a CPU.
        values: Any = x.numpy() if x.device.type == "cpu" else x
        count: Any = np.count_nonzero if x.device.type == "cpu" else torch.count_nonzero
        inside = (values > self.low) & (values < self.high)
        self.above += int(count(values > self.high))
        self.from_high += int(count(values >= self.high))
        self.from_low += int(count(values >= self.low))
        self._gather(torch.as_tensor(values[inside]))

    def _gather(self, found: Tensor) -> None:
        # Into one buffer: thousands of small ones would keep the memory between them from being reused.
        start, self.gathered = self.gathered, self.gathered + len(found)
        if self.gathered > len(self.inside):
            grown = found.new_empty(2 * self.gathered)
            grown[:start] = self.inside[:start]
            self.inside = grown
        self.inside[start : self.gathered] = found

    def ranked(self, k: int) -> float | None:
        """The k-th largest of all, or None if it is outside the bracket."""
        inside = self.inside[: self.gathered]
        rank = k - self.from_high
        if self.above < k <= self.from_high:
            return self.high
        if 1 <= rank <= len(inside):
            return float(inside.kthvalue(len(inside) - rank + 1).values)
        return self.low if len(inside) < rank <= self.from_low - self.from_high else None
