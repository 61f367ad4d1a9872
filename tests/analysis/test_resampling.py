"""The bootstrap against what is known in closed form, Holm against its definition."""

import math

import numpy as np
import pytest

from remerge.analysis.resampling import Outcomes, Resampled, draws_for, holm


def outcomes(rng, n, subsets, methods=2, right=0.7):
    tasks = sorted({task for subset in subsets for task in subset})
    merged = {
        t: (rng.random((methods, sum(t in s for s in subsets), n)) < right).astype(np.float32) for t in tasks
    }
    return Outcomes(subsets, {t: np.ones(n, np.float32) for t in tasks}, merged)


def test_anp_in_the_data_is_equation_5():
    rng = np.random.default_rng(0)
    made = outcomes(rng, 40, [("a", "b"), ("b", "c"), ("a", "b", "c")])
    own = {t: (rng.random(40) < 0.9).astype(np.float32) for t in "abc"}
    made = Outcomes(made.subsets, own, made.merged)
    found = Resampled(made, 0, 1).anp
    for method in range(2):
        # b is in all three subsets, c in the second and third.
        shares = [made.merged[t][method, k].mean() / own[t].mean() for t, k in (("b", 1), ("c", 0))]
        assert found[method, 1] == pytest.approx(100 * sum(shares) / 2, rel=1e-5)
        shares = [made.merged[t][method, k].mean() / own[t].mean() for t, k in (("a", 1), ("b", 2), ("c", 1))]
        assert found[method, 2] == pytest.approx(100 * sum(shares) / 3, rel=1e-5)


def test_of_one_merge_the_spread_is_that_of_the_paired_examples():
    """One task's share of two: the sd of a mean difference is that of the differences over √n, halved."""
    rng = np.random.default_rng(1)
    made = outcomes(rng, 400, [("a", "b")])
    made.merged["b"][1] = made.merged["b"][0]
    made.merged["a"][1] = np.where(rng.random(400) < 0.1, 0, made.merged["a"][0])
    d = 50 * (made.merged["a"][0, 0] - made.merged["a"][1, 0])
    found = Resampled(made, 3)
    spread = d.std() / math.sqrt(400)
    assert found.draws[:, 0, 0].std() > 2 * spread  # by itself, each spreads more
    assert (found.draws[:, 0] - found.draws[:, 1]).std() == pytest.approx(spread, rel=0.03)
    difference = found.difference(0, 1)
    assert difference.mean == pytest.approx(d.mean(), abs=1e-4)
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * spread, rel=0.05)
    z = abs(d.mean()) / spread
    assert difference.p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.03)
    back = found.difference(1, 0)
    assert (back.mean, back.low, back.high) == pytest.approx(
        (-difference.mean, -difference.high, -difference.low), abs=1e-6
    )


def test_where_examples_are_alike_the_spread_is_that_of_the_merges():
    subsets = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "d")]
    made = outcomes(np.random.default_rng(0), 10, subsets)
    for rows in made.merged.values():
        rows[:] = 0.5
    leads = [0.1, 0.0, 0.3, -0.1, 0.2, 0.4]
    for task, rows in made.merged.items():
        held = [lead for lead, subset in zip(leads, subsets, strict=True) if task in subset]
        rows[0] += np.array(held, np.float32)[:, None]
    found = Resampled(made, 0)
    spread = 100 * np.std(leads) / math.sqrt(6)
    assert (found.draws[:, 0] - found.draws[:, 1]).std() == pytest.approx(spread, rel=0.03)
    assert found.difference(0, 1).mean == pytest.approx(15, abs=1e-4)


def test_the_interval_holds_the_truth_in_nineteen_of_twenty_cases():
    """Right answers by lot, ten points apart in the mean over merges, whose leads vary by lot too."""
    rng, hits, cases = np.random.default_rng(5), 0, 300
    for case in range(cases):
        # Each merge has tasks of its own, so that merges are independent.
        subsets = [(f"{k}", f"{k}'") for k in range(20)]
        made = outcomes(rng, 60, subsets, right=0.0)
        for place in range(20):
            lead = 0.1 + 0.08 * rng.standard_normal()
            for task in subsets[place]:
                made.merged[task][0, 0] = rng.random(60) < 0.6 + lead
                made.merged[task][1, 0] = rng.random(60) < 0.6
        found = Resampled(made, case, 400).difference(0, 1)
        hits += found.low <= 10 <= found.high
    assert 0.92 <= hits / cases <= 0.995


def test_sizes_are_weighed_by_their_merges_and_a_method_may_lack_some():
    made = outcomes(np.random.default_rng(2), 30, [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")], 3)
    for task, rows in made.merged.items():
        rows[2, [k for k, s in enumerate([s for s in made.subsets if task in s]) if len(s) == 3]] = np.nan
    found = Resampled(made, 0, 500)
    lead = found.anp[0] - found.anp[1]
    assert found.difference(0, 1).mean == pytest.approx(lead.mean(), abs=1e-4)
    assert found.difference(0, 1, [3]).mean == pytest.approx(lead[3], abs=1e-4)
    pairs = found.difference(0, 2)
    assert pairs == found.difference(0, 2, [2])
    assert pairs.mean == pytest.approx((found.anp[0] - found.anp[2])[:3].mean(), abs=1e-4)
    assert math.isnan(found.difference(0, 2, [3]).mean) and math.isnan(found.difference(0, 2, [3]).p)


def test_the_seed_names_the_draws():
    made = outcomes(np.random.default_rng(2), 30, [("a", "b")])
    assert (Resampled(made, 4, 600).draws == Resampled(made, 4, 600).draws).all()
    assert (Resampled(made, 4, 600).draws != Resampled(made, 5, 600).draws).any()


def test_equal_methods_are_no_different():
    made = outcomes(np.random.default_rng(2), 30, [("a", "b")])
    for rows in made.merged.values():
        rows[1] = rows[0]
    found = Resampled(made, 0, 300).difference(0, 1)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_draws_in_which_methods_are_level_count_on_both_sides():
    """Means over seeds are thirds, whose sums in single precision depend on their order."""
    rng, n = np.random.default_rng(1), 30
    made = outcomes(rng, n, [("a", "b"), ("a", "c"), ("b", "c")], 9)
    for rows in made.merged.values():
        rows[:] = rng.integers(0, 3, rows.shape[1:]) / 3
    made.merged["a"][8, :, :2] += 1 / 3
    found = Resampled(made, 0)
    assert found.difference(0, 7).mean == found.difference(7, 0).low == found.difference(0, 7).high == 0
    # Level are the draws without the two examples, or without the two merges that have them.
    level = (1 - 2 / n) ** n * (1 - 1 / 27) + 1 / 27
    assert found.difference(8, 0).p == pytest.approx(2 * level, abs=0.02)


def test_draws_without_a_right_expert_are_left_out():
    made = outcomes(np.random.default_rng(2), 6, [("a", "b")])
    made.own["a"][1:] = 0
    found = Resampled(made, 0, 4000)
    undefined = np.isnan(found.draws[:, 0, 0]).mean()
    assert undefined == pytest.approx((5 / 6) ** 6, abs=0.03)
    assert math.isfinite(found.difference(0, 1).low) and found.difference(0, 1).p > 0


def test_holm():
    p = [0.01, 0.04, 0.03, 0.005]
    # sorted: 4·0.005, 3·0.01, 2·0.03, and 1·0.04, which may not fall below
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = list(rng.random(7) ** 3)
        for place, value in enumerate(holm(p)):
            # By its definition: the largest of the corrected values up to this one.
            ordered = sorted(p)
            upto = ordered[: ordered.index(p[place]) + 1]
            assert value == pytest.approx(min(1, max((7 - k) * q for k, q in enumerate(upto))))
    with_nan = holm([0.01, float("nan"), 0.04])
    assert with_nan[0] == 0.02 and math.isnan(with_nan[1]) and with_nan[2] == 0.04


@pytest.mark.parametrize("methods", [2, 10, 29, 45])
def test_the_least_p_that_the_draws_can_show_survives_the_correction_for_all_pairs(methods):
    pairs = methods * (methods - 1) // 2
    assert holm([2 / (1 + draws_for(methods))] + [1.0] * (pairs - 1))[0] < 0.0201
