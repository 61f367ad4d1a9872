"""Scores of all answers of a split together: correlations, and F1.

Comparisons over examples need the outcome of each, with the score as their mean. Here these are the
pseudo-values of the jackknife (Tukey, 1958): n times the score, less n − 1 times the score without the
example. All are moved by the small amount that makes the score their mean; their spread tells its error.
"""

import numpy as np
from numpy.typing import NDArray

from remerge.measures.free import number_in

Array = NDArray[np.float64]


def judged(metric: str, said: Array, gold: Array) -> tuple[float, Array]:
    """The score of all answers of a split, and what each example has of it.

    Args:
        metric: a name in `MEASURES`.
        said: the numbers that a model said, or the places of its choices among two answers, ``[n]``.
        gold: the right ones, ``[n]``.
    """
    measure, n = MEASURES[metric], len(gold)
    score = measure(said, gold)
    if n == 1:
        return score, np.array([score])
    # Without either of two equal examples, the others are the same.
    _, first, like = np.unique(np.stack([said, gold]), axis=1, return_index=True, return_inverse=True)
    without = np.array([measure(np.delete(said, i), np.delete(gold, i)) for i in first])[like.ravel()]
    return score, score + (n - 1) * (without.mean() - without)


def pearson(said: Array, gold: Array) -> float:
    """Pearson's correlation, for classes 0 and 1 that of Matthews (1975); 0 where either is constant."""
    if not np.ptp(said) or not np.ptp(gold):
        return 0.0
    return float(np.corrcoef(said, gold)[0, 1])


def spearman(said: Array, gold: Array) -> float:
    """Spearman's correlation: Pearson's of ranks, equal numbers sharing the mean of theirs; 0 likewise."""
    # Imported here: others do not need it.
    from scipy.stats import rankdata

    return pearson(rankdata(said), rankdata(gold))


def f1(said: Array, gold: Array) -> float:
    """The harmonic mean of precision and recall of class 1; 0 where it is neither said nor right."""
    both = said.sum() + gold.sum()
    return float(2 * (said * gold).sum() / both) if both else 0.0


MEASURES = {"matthews": pearson, "f1": f1, "pearson": pearson, "spearman": spearman}
"""The measures by their names in a configuration."""


def numbers(texts: list[str]) -> Array:
    """The last number in each text; 0 without one."""
    return np.array([float(number_in(text) or 0) for text in texts])
