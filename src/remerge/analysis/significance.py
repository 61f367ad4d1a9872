"""Intervals over merging experiments (DivMerge, Tables 3, 4), tests between methods (DRM, Tables 5, 6)."""

from collections.abc import Sequence
from math import nan, sqrt
from statistics import fmean, stdev

from scipy.special import stdtr, stdtrit

LEVEL = 0.05
"""A p below it is called significant, as in the papers."""

DIGITS = 9
"""Digits behind the point that are compared: numbers that differ by less differ by rounding."""


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its two-sided 95% Student t interval.

    ``half-width = t(0.975, n − 1) · s / √n``; NaN for a single value, which says
    nothing about its spread.
    """
    n = len(values)
    if n < 2:
        return (values[0] if n else nan), nan
    quantile = float(stdtrit(n - 1, 1 - LEVEL / 2))
    return fmean(values), quantile * stdev(values) / sqrt(n)


def paired_p(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The p of the one-sided paired t-test: how likely such a lead of ours would be if both were equal.

    ``t = d̄ · √n / s`` for the differences d, ``p = P(T > t)`` with n − 1 degrees of freedom; NaN for fewer
    than two pairs, or if all differ by the same amount.
    """
    differences = [round(a - b, DIGITS) for a, b in zip(ours, theirs, strict=True)]
    n = len(differences)
    spread = stdev(differences) if n > 1 else 0.0
    return float(stdtr(n - 1, -fmean(differences) * sqrt(n) / spread)) if spread else nan
