"""Correlations and F1 against other formulas, and what each example has of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, kendalltau, pearsonr, spearmanr

from remerge.measures.together import MEASURES, judged, numbers
from remerge.outcomes import pack, unpack

CLASSES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40)
SCORES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=3, max_size=40)


def counts(said, gold):
    """True and false positives, false and true negatives."""
    return [int(((said == a) & (gold == b)).sum()) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]


@given(CLASSES)
def test_matthews_and_f1_are_those_of_the_counts(pairs):
    said, gold = np.array(pairs, float).T
    tp, fp, fn, tn = counts(said, gold)
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert judged("matthews", said, gold)[0] == pytest.approx((tp * tn - fp * fn) / below if below else 0)
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0
    assert judged("f1", said, gold)[0] == pytest.approx(f1)


@given(SCORES)
def test_correlations_are_those_of_scipy(pairs):
    said, gold = np.array(pairs, float).T / 2
    constant = not np.ptp(said) or not np.ptp(gold)
    for metric, theirs in (("pearson", pearsonr), ("spearman", spearmanr)):
        expected = 0 if constant else theirs(said, gold).statistic
        assert judged(metric, said, gold)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", sorted(MEASURES))
@given(pairs=CLASSES)
def test_shares_are_pseudo_values_whose_mean_is_the_score(metric, pairs):
    said, gold = np.array(pairs, float).T
    score, shares = judged(metric, said, gold)
    n, measure = len(gold), MEASURES[metric]
    left = [measure(np.delete(said, i), np.delete(gold, i)) for i in range(n)]
    pseudo = n * score - (n - 1) * np.array(left)
    assert shares.mean() == pytest.approx(score, abs=1e-12)
    assert np.allclose(shares - score, pseudo - pseudo.mean(), atol=1e-9)
    kept = unpack(pack(shares, metric), metric, n)
    assert np.allclose(kept, shares, rtol=1e-6) and kept.mean() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("metric", sorted(MEASURES))
def test_their_spread_is_the_standard_error_of_a_bootstrap_that_judges_anew(metric):
    rng = np.random.default_rng(0)
    gold = rng.normal(size=600)
    said = gold + rng.normal(size=600)
    if metric in ("matthews", "f1"):
        said, gold = (said > 0.5).astype(float), (gold > 0.2).astype(float)
    _, shares = judged(metric, said, gold)
    drawn = bootstrap((said, gold), MEASURES[metric], paired=True, vectorized=False, n_resamples=999, rng=rng)
    assert shares.std(ddof=1) / math.sqrt(600) == pytest.approx(drawn.standard_error, rel=0.1)


def test_one_example_has_the_whole_score():
    one = np.ones(1)
    assert judged("f1", one, one) == (1, pytest.approx([1]))
    assert judged("spearman", one, one) == (0, pytest.approx([0]))


def test_an_answer_without_a_number_is_a_zero():
    assert numbers(["3.8", "rather 4 than 5", "no", "-1"]).tolist() == [3.8, 5, 0, -1]


def test_ranks_know_only_the_order():
    said, gold = np.array([1, 2, 3, 50.0]), np.array([0.1, 0.2, 0.3, 0.4])
    assert judged("spearman", said, gold)[0] == pytest.approx(1) == kendalltau(said, gold).statistic
    assert judged("pearson", said, gold)[0] < 0.9
