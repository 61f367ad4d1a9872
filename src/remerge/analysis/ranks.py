"""Methods ranked on the same merges (Demšar, 2006: Statistical comparisons of classifiers over data sets)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from remerge.analysis.significance import DIGITS, LEVEL


@dataclass(frozen=True)
class Ranks:
    """Mean ranks, 1 being the best, and which of their differences are more than chance.

    Attributes:
        means: each method's mean rank; equal values share their mean rank.
        p: the p of Friedman's test that all methods are equal; 1 if they are equal on every merge.
        critical: Nemenyi's difference of mean ranks that two methods have by chance in 5% of cases.
        groups: the methods' indices, best first, in each group in which no two differ by more.
    """

    means: list[float]
    p: float
    critical: float
    groups: list[list[int]]


def ranks(values: NDArray[np.float64] | Sequence[Sequence[float]]) -> Ranks:
    """Rank three methods or more on two merges or more, ``[methods, merges]``, where higher is better.

    ``critical = q · √(k (k + 1) / (6 N))``, with q the studentised range's quantile over √2.
    """
    table = np.round(np.asarray(values, float), DIGITS)
    k, n = table.shape
    means = rankdata(-table, axis=0).mean(axis=1)
    q = float(studentized_range.ppf(1 - LEVEL, k, np.inf)) / sqrt(2)
    critical = q * sqrt(k * (k + 1) / (6 * n))
    p = float(friedmanchisquare(*table).pvalue) if np.ptp(table, axis=0).any() else 1.0
    return Ranks(means.tolist(), p, critical, _alike(means.tolist(), critical))


def _alike(means: Sequence[float], critical: float) -> list[list[int]]:
    """The largest runs of at least two neighbours that are within the critical difference."""
    order = sorted(range(len(means)), key=lambda place: means[place])
    runs = [
        order[first : last + 1]
        for first, last in combinations(range(len(order)), 2)
        if means[order[last]] - means[order[first]] <= critical
    ]
    return [run for run in runs if not any(set(run) < set(other) for other in runs)]
