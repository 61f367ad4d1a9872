"""What a benchmark would take: its work counted, its units measured, a table of both."""

import re
from pathlib import Path

import pytest
from counting import passes
from projects import settings

from remerge import config as configuration
from remerge.batches import batches
from remerge.config import Config
from remerge.timing import PAGE, table
from remerge.units import Extent
from remerge.work import Jobs

ROOT = Path(__file__).parent.parent


def world(**changes) -> Config:
    return Config.model_validate(settings() | changes)


def counted(jobs: Jobs, *kinds: str) -> float:
    """How often kinds of units are done in merges."""
    works = [work for row, works in jobs.rows().items() if row.startswith("merges") for work in works]
    return sum(times for work in works for unit, times in work.items() if unit.kind in kinds)


def test_merges_are_scored_on_the_tasks_that_judge_them() -> None:
    plain = world(merge={"variants": ["average"]}, plans={"subsets": {}})
    # Three pairs and one of three, each task's test in one batch.
    assert passes(Jobs(plain).batch(batches(plain)["average"])) == 3 * 2 + 3
    assert counted(Jobs(plain), "merge") == 4
    judged = world(merge={"variants": ["average"]}, plans={"subsets": {"judged": "all"}, "negation": {}})
    assert passes(Jobs(judged).batch(batches(judged)["average"])) == 4 * 3 + 3 * 3


def test_choices_count_every_point_and_what_it_is_compared_with() -> None:
    tuned = {"variants": [{"ties": {"density": {"tune": [0.1, 0.2, 0.3]}}}, "average"]}
    config = world(merge=tuned, plans={"subsets": {"only": ["cola+sst2"]}})
    # Three points and two experts on validation, the merge on test.
    assert passes(Jobs(config).batch(batches(config)["ties"])) == 3 * 2 + 2 + 2
    searched = world(
        merge=tuned, plans={"subsets": {"only": ["cola+sst2"]}}, tune={"search": "tpe", "trials": 2}
    )
    assert passes(Jobs(searched).batch(batches(searched)["ties"])) == 2 * 2 + 2 + 2


def test_learning_takes_no_more_inputs_than_there_are() -> None:
    learned = {"epochs": 3}
    merge, plans = {"variants": [{"divmerge": learned}]}, {"subsets": {"sizes": [3]}}
    config = world(merge=merge, plans=plans)
    assert counted(Jobs(config), "fit") == 3 * 24
    assert counted(Jobs(config, dict.fromkeys(config.tasks, Extent(300, 5, 24, 2))), "fit") == 3 * 5
    several = world(merge={"variants": [{"divmerge": {**learned, "seeds": 2}}]}, plans=plans)
    assert counted(Jobs(several), "fit") == 2 * 3 * 24


def test_points_that_are_one_for_a_number_of_experts_are_tried_once_and_their_merges_not_learned_again() -> (
    None
):
    points = {"tune": [0.5, "1/T", 1]}
    merge = {
        "variants": [{"divmerge": {"epochs": 1, "initial": points, "learning_rate": {"tune": [0.1, 0.2]}}}]
    }
    plans = {"subsets": {"only": ["cola+mnli", "cola+mnli+sst2"], "tune_on": ["cola+mnli", "cola+mnli+sst2"]}}
    # Four points of a pair and six of three experts; the two merges are among them.
    assert counted(Jobs(world(merge=merge, plans=plans)), "fit") == (4 + 6) * 24
    several = {"variants": [{"divmerge": {**merge["variants"][0]["divmerge"], "seeds": 2}}]}
    assert counted(Jobs(world(merge=several, plans=plans)), "fit") == (4 + 6 + 2) * 24
    # Several processes do not know of each other's.
    assert counted(Jobs(world(merge=merge, plans=plans, shards=2)), "fit") >= (4 + 6 + 2) * 24


def test_shares_do_together_what_one_process_does() -> None:
    one, several = (counted(Jobs(world(shards=shards)), "fit", "merge") for shards in (1, 2))
    # Each share merges anew what choices are compared with; 0.5 and 1/T are tried by one each, and the pair
    # that was tried is learned again: six steps each.
    assert one <= several <= one + 4 + 2 * 6


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_has_rows(path: Path) -> None:
    rows = Jobs(configuration.load(path)).rows()
    assert next(iter(rows)) == "base" and "scores" in rows
    assert any(row.startswith("merges") for row in rows)
    assert all(times >= 0 for works in rows.values() for work in works for times in work.values())


def test_a_table_adds_up_and_fits_a_hundred_columns() -> None:
    long = "merges: divmerge@divergence=js,level=layer,over=ties"
    rows = {"base": [1.0], "experts": [10.0, 30.0, 20.0], "scores": [4.0], long: [50.0], PAGE: [3.0] * 4}
    lines = table(rows, 5.0, 2)
    assert all(len(line) <= 100 for line in lines)
    assert re.fullmatch(r"experts +3 +1 min 0 s", lines[2])
    assert re.fullmatch(r"total +10 +2 min 37 s", lines[-2])
    # 6, the longer of 35 and 75 / 2, 9, 55, and 12 / 2 seconds.
    assert lines[-1] == "2 at a time: about 1 min 54 s"
    assert table(rows, 5.0, 1)[-1] == "1 at a time: about 2 min 37 s"
