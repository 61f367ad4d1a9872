"""Intervals over merging experiments, as in the DivMerge paper's Tables 3 and 4."""

from collections.abc import Sequence
from math import nan, sqrt
from statistics import fmean, stdev

from scipy.special import stdtrit


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The mean and the half-width of its two-sided Student t interval.

    ``half-width = t(1 − (1 − confidence)/2, n − 1) · s / √n``; NaN for a single value, which says
    nothing about its spread.
    """
    n = len(values)
    if n < 2:
        return (values[0] if n else nan), nan
    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2))
    return fmean(values), quantile * stdev(values) / sqrt(n)
