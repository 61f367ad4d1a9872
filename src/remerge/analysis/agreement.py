"""Sign agreement of pruned deltas, as in the DRM paper's Section 6.2, Table 4 and Figure 5.

All take a tally of positions: at ``tally[p][q]`` positions, p experts have a positive sign and q a negative.
Positions at which no expert is left have no sign, and are not counted.
"""

from collections.abc import Iterator, Sequence
from math import comb, nan

Tally = Sequence[Sequence[int]]

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The edges of the histogram's bins: each bin includes its lower edge, the last bin both."""


def mean_agreement(tally: Tally) -> float:
    """The mean over positions of max(p, q) / (p + q), between 1/2 and 1; NaN without positions."""
    return _mean((max(p, q) / (p + q), n) for p, q, n in _signed(tally))


def agreement_by_lot(tally: Tally) -> float:
    """The same if every sign were drawn at random: 1/2 + C(k−1, ⌊(k−1)/2⌋) / 2^k expected for k = p + q."""
    return _mean((0.5 + comb(p + q - 1, (p + q - 1) // 2) / 2 ** (p + q), n) for p, q, n in _signed(tally))


def experts_left(tally: Tally) -> float:
    """The mean of p + q over positions at which any expert is left."""
    return _mean((p + q, n) for p, q, n in _signed(tally))


def histogram(tally: Tally) -> list[float]:
    """The share of positions in each bin; NaN without positions."""
    held = [0] * (len(EDGES) - 1)
    for p, q, n in _signed(tally):
        # In integers: 3 of 5 experts belong in the second bin, whatever 0.6 rounds to.
        held[min(10 * max(p, q) // (p + q) - 5, len(held) - 1)] += n
    return [n / sum(held) if sum(held) else nan for n in held]


def _signed(tally: Tally) -> Iterator[tuple[int, int, int]]:
    return ((p, q, n) for p, row in enumerate(tally) for q, n in enumerate(row) if p + q)


def _mean(values: Iterator[tuple[float, int]]) -> float:
    pairs = list(values)
    total = sum(n for _, n in pairs)
    return sum(value * n for value, n in pairs) / total if total else nan
