"""A variant's name is written and read in one place."""

from hypothesis import given
from hypothesis import strategies as st

from remerge.variants import MOST_POINTS, Grid, is_tuned, name_of, parse, tuned

NUMBERS = st.one_of(
    st.integers(-5, 5), st.floats(-9, 9, allow_subnormal=False).map(lambda x: round(x, 3)), st.booleans()
)


@given(st.dictionaries(st.sampled_from(["density", "scale", "seed"]), NUMBERS))
def test_what_is_written_is_read_back(params):
    assert parse(name_of("ties", params)) == ("ties", params)


def test_names():
    assert name_of("ties", {}) == "ties"
    assert name_of("ties", {"scale": 1.2, "density": 0.1}) == "ties@density=0.1,scale=1.2"
    assert name_of("ties", {"density": {"tune": [0.1, 0.2]}}) == "ties@tuned"
    assert name_of("ties", {"scope": "tensor", "scale": {"tune": [1]}}) == "ties@scope=tensor,tuned"
    assert name_of("average", {"weights": [0.5, 1]}) == "average@weights=0.5+1"


def test_what_cannot_name_a_folder_stands_by_a_digest():
    first, second = (name_of("divmerge", {"initial": value}) for value in ("1/T", "../x"))
    assert first != second
    assert "/" not in first + second
    by_name = name_of("task_arithmetic", {"scale": {"cola": 0.3}})
    assert by_name.startswith("task_arithmetic@scale=")
    assert by_name != name_of("task_arithmetic", {"scale": {"cola": 0.4}})


def test_tuned_is_read_back_as_such():
    assert parse("ties@scope=tensor,tuned") == ("ties", {"scope": "tensor", "tuned": True})
    assert parse("ties@tuned=1a2b3c4d")[1] == {"tuned": "1a2b3c4d"}


NESTED = {
    "density": {"tune": [0.1, 0.2]},
    "scope": "tensor",
    "scale": {"cola": {"tune": [1, 2, 3]}, "sst2": 0.5, "mnli": {"tune": [4]}},
}


def test_a_part_of_a_parameter_is_tuned():
    assert tuned(NESTED) == {("density",): [0.1, 0.2], ("scale", "cola"): [1, 2, 3], ("scale", "mnli"): [4]}
    assert [is_tuned(value) for value in NESTED.values()] == [True, False, True]
    assert name_of("ties", NESTED) == "ties@scope=tensor,tuned"
    grid = Grid(NESTED)
    points = [
        {"density": d, "scale": {"cola": c, "sst2": 0.5, "mnli": 4}} for d in (0.1, 0.2) for c in (1, 2, 3)
    ]
    assert grid.size == 6 and grid.sizes == [2, 3, 1]
    assert grid.sample == [grid.point(k) for k in range(6)] == points


def test_a_grid_of_nothing_has_one_point():
    assert Grid({"density": 0.1, "scale": {"cola": 1}}).sample == [{}]


def test_of_a_grid_too_large_to_list_every_value_is_seen():
    layers = {f"layers.{k}": {task: {"tune": [0.2, 0.4, 0.6]} for task in "abc"} for k in range(28)}
    grid = Grid({"scale": layers, "density": {"tune": [0.1, 0.2]}})
    assert grid.size == 2 * 3**84 > MOST_POINTS
    assert len(grid.sample) == 3
    for task in "abc":
        assert {point["scale"]["layers.9"][task] for point in grid.sample} == {0.2, 0.4, 0.6}
    last = grid.point(grid.size - 1)
    assert last["density"] == 0.2 and last["scale"]["layers.0"]["a"] == 0.6
    assert grid.point(1)["density"] == 0.2 and grid.point(2)["scale"]["layers.27"] == {
        "a": 0.2,
        "b": 0.2,
        "c": 0.4,
    }
