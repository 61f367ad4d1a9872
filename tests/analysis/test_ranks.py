"""Ranks against Demšar's worked example and his table of critical values."""

import math

import numpy as np
import pytest
from scipy import stats

from remerge.analysis.ranks import ranks

# Demšar (2006), Table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets.
C45 = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957]
M = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978]
CF = [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946]
M_CF = [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970]


def test_the_worked_example():
    found = ranks([C45, M, CF, M_CF])
    assert found.means == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=2e-3)
    assert found.p == pytest.approx(stats.friedmanchisquare(C45, M, CF, M_CF).pvalue)


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_critical_values(k, q):
    """Demšar (2006), Table 5(a)."""
    values = np.random.default_rng(0).random((k, 30))
    assert ranks(values).critical == pytest.approx(q * math.sqrt(k * (k + 1) / 180), rel=1e-3)


def test_methods_that_never_differ():
    found = ranks([[1.0, 2.0]] * 3)
    assert (found.means, found.p, [len(group) for group in found.groups]) == ([2.0] * 3, 1.0, [3])


def test_values_that_differ_by_rounding_are_equal():
    equal = [0.1 + 0.2, 0.5], [0.3, 0.5], [0.3, 0.4 + 0.1]
    found = ranks(equal)
    assert (found.means, found.p) == ([2.0] * 3, 1.0)


def test_groups_are_the_largest_runs_within_the_critical_difference():
    rng = np.random.default_rng(1)
    quality = [0.0, 1.0, 0.05, 0.5, 1.05]
    values = [q + 0.002 * rng.standard_normal(40) for q in quality]
    found = ranks(values)
    assert found.critical == pytest.approx(2.728 * math.sqrt(5 * 6 / 240), rel=1e-3)
    assert found.means == pytest.approx([5, 2, 4, 3, 1])
    # 0.96 hold no two of the ranks 1 to 5 together, 1.69 any two neighbours, 3.52 any four.
    assert found.groups == []
    few = ranks([row[:13] for row in values])
    assert [set(group) for group in few.groups] == [{4, 1}, {1, 3}, {3, 2}, {2, 0}]
    few = ranks([row[:3] for row in values])
    assert [set(group) for group in few.groups] == [{4, 1, 3, 2}, {1, 3, 2, 0}]
