"""A search nears the best point, and the same merits lead it along the same points."""

from remerge.search import Search

SIZES = (30, 4)


def course(trials: int) -> list[int]:
    """The points that are tried; merits fall with the distance from 21 and 2, and some trials diverge."""
    search, points = Search(SIZES, seed=3), []
    for _ in range(trials):
        trial, point = search.ask()
        assert 0 <= point < SIZES[0] * SIZES[1]
        first, second = divmod(point, SIZES[1])
        search.tell(trial, None if first > 27 else -abs(first - 21) - 5 * abs(second - 2))
        points.append(point)
    return points


def test_the_best_point_is_found_in_a_third_of_the_grid() -> None:
    assert 21 * SIZES[1] + 2 in course(40)


def test_a_search_that_was_cut_short_goes_on_the_same_way() -> None:
    assert course(30)[:12] == course(12)
