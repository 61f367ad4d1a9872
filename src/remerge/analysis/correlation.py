"""Correlations, as in the DivMerge paper's Table 2."""

from collections.abc import Sequence

from scipy.stats import pearsonr, rankdata


def pearson(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's r; NaN for fewer than two pairs, or if one side does not vary."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} values against {len(second)}")
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")
    return float(pearsonr(first, second).statistic)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's ρ: Pearson's correlation of the ranks, equal values sharing their mean rank."""
    return pearson(rankdata(first).tolist(), rankdata(second).tolist())
