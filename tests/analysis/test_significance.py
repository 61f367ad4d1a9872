import math

import numpy as np
import pytest
from scipy import stats

from remerge.analysis.significance import mean_interval, paired_p


def test_agrees_with_scipy() -> None:
    values = [88.1, 93.4, 90.2, 79.9, 95.0, 91.7]
    mean, half = mean_interval(values)
    low, high = stats.t.interval(0.95, 5, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_by_hand() -> None:
    # n = 2, s = √2, t(0.975, 1) = 12.7062
    mean, half = mean_interval([1.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(12.7062, abs=1e-4)


def test_one_value_has_no_interval() -> None:
    mean, half = mean_interval([42.0])
    assert mean == 42 and math.isnan(half)
    assert all(math.isnan(number) for number in mean_interval([]))


def test_the_same_lead_everywhere_has_no_p() -> None:
    """Though 0.9 - 0.8 and 0.8 - 0.7 differ in their last bits."""
    assert math.isnan(paired_p([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]))
    assert paired_p([0.9, 0.8, 0.7], [0.8, 0.7, 0.5]) == pytest.approx(
        stats.ttest_rel([0.9, 0.8, 0.7], [0.8, 0.7, 0.5], alternative="greater").pvalue
    )
