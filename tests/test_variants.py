"""A variant's name is written and read in one place."""

from hypothesis import given
from hypothesis import strategies as st

from remerge.variants import name_of, parse

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
