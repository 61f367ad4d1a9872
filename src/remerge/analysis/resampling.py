"""Methods compared in pairs on the same merges, by a bootstrap over test examples and merges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

DRAWS = 10_000
"""Draws for intervals, and for the p-values of few methods."""

MOST = 100_000
"""The most draws for the p-values of many methods."""

BLOCK = 250
"""Draws made at once, to bound the memory."""

DIGITS = 4
"""Digits behind the point of ANP that are compared: what single precision adds is less."""


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of each test example, for each task's own expert and every merge.

    Attributes:
        subsets: the tasks of each merge, S of them.
        own: for each task, the expert's outcomes ``[n]``, from 0 to 1, or pseudo-values.
        merged: for each task, ``[methods, merges with it, n]``; NaN where a method makes no such merge.
    """

    subsets: Sequence[tuple[str, ...]]
    own: Mapping[str, Array]
    merged: Mapping[str, Array]

    @property
    def sizes(self) -> list[int]:
        """The numbers of merged tasks, ascending."""
        return sorted({len(subset) for subset in self.subsets})

    def of_size(self, size: int) -> list[int]:
        """The indices of the subsets of a size."""
        return [place for place, subset in enumerate(self.subsets) if len(subset) == size]


@dataclass(frozen=True)
class Difference:
    """How far one method leads another: the mean, the interval that contains 95% of the draws, and p.

    p is two-sided: twice the share of the draws, including the data themselves, on the rarer side of zero.
    """

    mean: float
    low: float
    high: float
    p: float


class Resampled:
    """The mean ANP of every method and size in the data, and in each draw of a bootstrap.

    A draw takes n of the n test examples of each task with replacement, the same for all merges and for the
    expert that normalises them, and as many merges of each size as there are, the same for all
    methods. Where an expert's score is not above 0 there is no ANP: such draws are left out.

    Attributes:
        anp: ``[methods, S]``, the ANP of every merge in the data.
        draws: ``[draws, methods, sizes]``.
    """

    def __init__(self, outcomes: Outcomes, seed: int, draws: int = DRAWS) -> None:
        self.outcomes = outcomes
        self.groups = [outcomes.of_size(size) for size in outcomes.sizes]
        once = {task: np.ones((1, len(own)), np.float32) for task, own in outcomes.own.items()}
        self.anp = _anp(outcomes, once)[0]
        rng = np.random.default_rng(seed)
        blocks = [self._block(rng, min(BLOCK, draws - start)) for start in range(0, draws, BLOCK)]
        self.draws = np.concatenate(blocks)

    def difference(self, first: int, second: int, sizes: Sequence[int] | None = None) -> Difference:
        """The lead of one method over another: the mean over the merges of ``sizes``, or all, that both make.

        NaN if there are none.
        """
        asked = self.outcomes.sizes if sizes is None else sizes
        groups = [
            place
            for place, size in enumerate(self.outcomes.sizes)
            if size in asked and not np.isnan(self.anp[[first, second]][:, self.groups[place]]).any()
        ]
        if not groups:
            return Difference(*[float("nan")] * 4)
        members = [subset for group in groups for subset in self.groups[group]]
        share = np.array([len(self.groups[group]) for group in groups]) / len(members)
        drawn = (self.draws[:, first] - self.draws[:, second])[:, groups] @ share
        drawn = np.round(drawn[~np.isnan(drawn)], DIGITS)
        low, high = np.quantile(drawn, [0.025, 0.975])
        rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
        mean = round(float((self.anp[first] - self.anp[second])[members].mean()), DIGITS)
        return Difference(mean, float(low), float(high), min(1.0, float(2 * (1 + rarer) / (1 + len(drawn)))))

    def _block(self, rng: np.random.Generator, count: int) -> Array:
        anp = _anp(self.outcomes, {t: _lots(rng, count, len(own)) for t, own in self.outcomes.own.items()})
        means = [
            np.einsum("ds,dvs->dv", _lots(rng, count, len(group)) / len(group), anp[:, :, group])
            for group in self.groups
        ]
        return np.stack(means, axis=-1)


def draws_for(methods: int) -> int:
    """The number of draws whose smallest possible p, 2 / (draws + 1), stays below 5% after Holm's correction.

    It is 2% after the correction for all pairs of up to 45 methods; there are at most `MOST` draws.
    """
    return min(max(100 * methods * (methods - 1) // 2, DRAWS), MOST)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: of m values, the i-th smallest times m − i + 1, never falling, at most 1.

    NaN stays and is not counted.
    """
    order = [int(place) for place in np.argsort(p_values) if p_values[place] == p_values[place]]
    found, highest = [float("nan")] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[place]))
        found[place] = highest
    return found


def _anp(outcomes: Outcomes, counts: Mapping[str, Array]) -> Array:
    """ANP (DivMerge, Eq. 5) if each example occurred this often in its split: ``[draws, methods, S]``."""
    draws, methods = len(next(iter(counts.values()))), len(next(iter(outcomes.merged.values())))
    found = np.zeros((draws, methods, len(outcomes.subsets)), np.float32)
    for task, own in outcomes.own.items():
        held = [place for place, subset in enumerate(outcomes.subsets) if task in subset]
        scores = counts[task] @ outcomes.merged[task].reshape(-1, len(own)).T
        expert = counts[task] @ own
        share = scores.reshape(draws, methods, -1) / np.where(expert > 0, expert, np.nan)[:, None, None]
        found[:, :, held] += 100 * share / [len(outcomes.subsets[place]) for place in held]
    return found


def _lots(rng: np.random.Generator, draws: int, n: int) -> Array:
    """How often each of n items is drawn when n are drawn with replacement: ``[draws, n]``."""
    drawn = rng.integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float32)
