"""The catalogue, and what is refused before anything is computed."""

import pytest
import torch

import remerge
from remerge import methods
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.methods import find, prepare

NAMES = {
    "average task_arithmetic layerwise slerp multi_slerp karcher ties dare dare_ties breadcrumbs della",
    "drm_h drm_v knots tsv_m iso_c fisher regmean adamerging divmerge",
}


def test_every_method_of_the_papers_is_there():
    known = remerge.methods()
    assert {name for line in NAMES for name in line.split()} <= set(known)
    for name, method in known.items():
        assert method.name == name
        assert method.citation and method.summary and method.family
        assert all(p.values for p in method.parameters.values())
    assert list(known) == list(remerge.methods())


def test_families_are_the_folders():
    assert {m.family for m in remerge.methods().values()} == {
        "linear",
        "spherical",
        "interference",
        "decomposition",
        "statistics",
        "learned",
    }


def test_table_has_a_line_a_method():
    lines = methods.table().split("\n")
    assert len(lines) == 2 + len(remerge.methods())
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    assert all(line.replace("\\|", "").count("|") == 7 for line in lines)
    assert "`density` = 0.2: float in (0, 1]" in methods.table()


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("tise", {}, "unknown method 'tise', did you mean ties"),
        ("ties", {"densty": 0.1}, "unknown parameter densty, the nearest known is density"),
        ("average", {"scale": 1}, "unknown parameter scale, the nearest known is"),
        ("ties", {"density": 1.5}, "density is float in"),
        ("ties", {"density": "0.5"}, "density is float in"),
        ("task_arithmetic", {"scale": [0.1, 0.2]}, "2 numbers for 3 experts"),
        ("task_arithmetic", {"scale": float("nan")}, "scale is float in .* or one per expert"),
        ("drm_h", {"renormalise": 1}, "renormalise is True | False, not 1"),
        ("drm_h", {"pruning": "both"}, "pruning is joint | individual, not 'both'"),
        ("divmerge", {}, "divmerge learns from inputs"),
    ],
)
def test_wrong_calls(base, experts, method, params, message):
    with pytest.raises(UserError, match=message):
        remerge.merge(method, base, experts, **params)


def test_preparations_that_there_are_not(base, experts):
    deltas = Deltas(base, experts)
    with pytest.raises(UserError, match="method tsv_m prepares no task vectors; these do: drm_h"):
        prepare("tsv_m", deltas)
    with pytest.raises(UserError, match="write name=value"):
        prepare("ties@0.2", deltas)
    with pytest.raises(UserError, match="unknown parameter dense"):
        prepare("ties@dense=0.2", deltas)
    with pytest.raises(UserError, match="take the subset before preparing"):
        prepare("ties", deltas).subset(["cola"])


def test_a_method_is_its_signature(base, experts):
    assert find("ties").settings({"density": 0.1}) == {
        "density": 0.1,
        "scale": 1.0,
        "scope": "model",
        "aggregate": "mean",
    }
    assert "statistics" not in find("fisher").parameters


def test_experts_may_be_a_list(base, experts):
    merged = remerge.merge("ties", base, list(experts.values()))
    named = remerge.merge("ties", base, experts)
    assert all(torch.equal(merged[name], named[name]) for name in base)
