import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from remerge.analysis.correlation import spearman


def test_agrees_with_scipy_where_values_tie() -> None:
    first, second = [0.0, 1.5, 1.5, 3.0, 2.0], [0.9, 0.4, 0.5, 0.4, 0.1]
    assert spearman(first, second) == pytest.approx(float(spearmanr(first, second).statistic))


def test_a_tie_by_hand() -> None:
    # ranks 1, 2.5, 2.5 against 3, 2, 1: covariance -1.5, variances 1.5 and 2
    assert spearman([0, 1, 1], [9, 8, 7]) == pytest.approx(-1.5 / math.sqrt(3))


def test_random_vectors_against_the_formula_without_ties() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random(12), rng.random(12)
    gaps = one.argsort().argsort() - two.argsort().argsort()
    formula = 1 - 6 * float((gaps**2).sum()) / (12 * (12**2 - 1))
    assert spearman(one.tolist(), two.tolist()) == pytest.approx(formula)


def test_nothing_varies() -> None:
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1], [2]))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="3 values against 2"):
        spearman([1, 2, 3], [1, 2])
