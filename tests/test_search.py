"""A search nears the best point, and the same merits lead it along the same points."""

import numpy as np
import pytest

from remerge.search import Search
from remerge.variants import population_of

SIZES = (30, 1, 4)
KINDS = pytest.mark.parametrize("kind", ["tpe", "cma"])
pytestmark = pytest.mark.filterwarnings("error")


def course(kind: str, trials: int) -> list[int]:
    """The points that are tried; merits fall with the distance from 21 and 2, and some trials diverge."""
    search, points = Search(kind, SIZES, seed=5), []
    for number in range(trials):
        trial, point = search.ask()
        assert 0 <= point < SIZES[0] * SIZES[2]
        first, second = divmod(point, SIZES[2])
        diverges = number < 2 or first > 27 or number % 5 == 0
        search.tell(trial, None if diverges else -abs(first - 21) - 5 * abs(second - 2))
        points.append(point)
    return points


@KINDS
def test_the_best_point_is_found_in_a_third_of_the_grid(kind: str) -> None:
    assert 21 * SIZES[2] + 2 in course(kind, 40)


@KINDS
def test_a_search_that_was_cut_short_goes_on_the_same_way(kind: str) -> None:
    assert course(kind, 60)[:33] == course(kind, 33)


def test_evolution_learns_among_more_points_than_a_machine_can_count() -> None:
    """Optuna would draw points at random where it cannot use CMA-ES; merits would not improve."""
    sizes = [11] * 96
    search, merits = Search("cma", sizes, seed=0), []
    for _ in range(20 * population_of(len(sizes))):
        trial, point = search.ask()
        merit = 0.0
        for place in range(len(sizes)):
            point, value = divmod(point, 11)
            merit -= (value - place % 11) ** 2
        search.tell(trial, merit)
        merits.append(merit)
    assert point == 0
    assert max(merits[-20:]) > 2 * max(merits[:20])


def test_evolution_tries_the_same_points_by_whatever_basis_a_machine_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eigenvectors of equal eigenvalues, and the signs of all, depend on processor and threads."""
    before, found = course("cma", 40), np.linalg.eigh

    def other(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, basis = found(matrix)
        return values[::-1], -basis[:, ::-1]

    monkeypatch.setattr(np.linalg, "eigh", other)
    assert course("cma", 40) == before
