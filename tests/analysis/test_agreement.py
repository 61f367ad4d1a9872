"""Sign agreement of tallies, against enumeration, and against what the DRM paper prints of its spaces."""

from itertools import product
from math import comb, isnan
from statistics import fmean

import pandas as pd
import pytest

from remerge import sources
from remerge.analysis.agreement import agreement_by_lot, experts_left, histogram, mean_agreement


def tally_of(columns: list[tuple[int, ...]]) -> list[list[int]]:
    count = len(columns[0]) + 1
    tally = [[0] * count for _ in range(count)]
    for column in columns:
        tally[column.count(1)][column.count(-1)] += 1
    return tally


def test_positions_without_a_sign_are_left_out() -> None:
    tally = tally_of([(0, 0, 0), (1, 0, 0), (1, -1, 0), (1, 1, -1)])
    assert mean_agreement(tally) == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert experts_left(tally) == 2
    assert isnan(mean_agreement(tally_of([(0, 0)]))) and isnan(histogram(tally_of([(0, 0)]))[0])


@pytest.mark.parametrize("experts", range(1, 8))
def test_by_lot_is_the_mean_over_all_signs(experts: int) -> None:
    everything = tally_of(list(product((1, -1), repeat=experts)))
    assert agreement_by_lot(everything) == pytest.approx(mean_agreement(everything), rel=1e-12)
    alike = tally_of([(1,) * experts])
    assert agreement_by_lot(alike) == pytest.approx(mean_agreement(everything), rel=1e-12)


def test_the_bins_of_the_histogram() -> None:
    columns = [(1, -1, 0, 0, 0), (1, 1, 1, -1, -1), (1, 1, 1, 1, -1), (1, 1, 1, 1, 1), (1, 1, -1, 0, 0)]
    assert histogram(tally_of(columns)) == [0.2, 0.4, 0.0, 0.2, 0.2]
    nine = [(1,) * 9 + (-1,)]
    assert histogram(tally_of(nine)) == [0, 0, 0, 0, 1]


def test_the_papers_joint_spaces_are_near_what_lots_give_at_its_density() -> None:
    """So a position counts if any expert is left, at a density of 20%; counted otherwise, all is far off."""
    table = pd.read_csv(sources.EXHIBITS / "drm/table4.csv").set_index(["benchmark", "row"])["value"]
    for benchmark, experts, stated in (("drm-vit-b32", 8, 84.7), ("drm-llama-lora", 5, 90.2)):
        tally = [[0] * (experts + 1) for _ in range(experts + 1)]
        for left in range(experts + 1):
            places = comb(experts, left) * 4 ** (experts - left)  # of density 1 to 4
            for positive in range(left + 1):
                tally[positive][left - positive] = places * comb(left, positive) * 2 ** (experts - left)
        lots = 100 * mean_agreement(tally)
        assert lots == pytest.approx(stated, abs=0.05)
        published = [table[benchmark, f"{space} DS"] for space in ("Horizontal", "Vertical")]
        assert fmean(published) == pytest.approx(lots, abs=0.7)
