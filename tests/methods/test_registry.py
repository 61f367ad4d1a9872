"""The catalogue, and what is refused before anything is computed."""

import math

import pytest
import torch

import remerge
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.methods import find, prepare

NAMES = {
    "average task_arithmetic layerwise lines metagpt slerp multi_slerp karcher model_stock",
    "ties dare dare_ties breadcrumbs della consensus sce pcb ram",
    "drm_h drm_v knots tsv_m star cart iso_c iso_cts wudi doge fisher regmean adamerging divmerge",
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


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("tise", {}, "unknown method 'tise', did you mean ties"),
        ("ties", {"densty": 0.1}, "unknown parameter densty, the nearest known is density"),
        ("average", {"scale": 1}, "unknown parameter scale, the nearest known is"),
        ("ties", {"density": 1.5}, "density must be float in"),
        ("ties", {"density": "0.5"}, "density must be float in"),
        ("task_arithmetic", {"scale": [0.1, 0.2]}, "2 numbers for 3 experts"),
        ("task_arithmetic", {"scale": float("nan")}, "scale must be float in .* or one float in .* per"),
        ("average", {"weights": [1, -1, 1]}, r"weights must be one float in \[0, 1e\+09\] per expert or one"),
        ("average", {"weights": [1e308, 1e308, 1]}, "weights must be one float in"),
        ("drm_h", {"renormalise": 1}, "renormalise is True | False, not 1"),
        ("drm_h", {"pruning": "both"}, "pruning must be joint | individual, not 'both'"),
        ("divmerge", {}, "divmerge learns from inputs"),
        ("divmerge", {"learning_rate": 0}, r"learning_rate must be float in \(0, 10\], not 0"),
        ("divmerge", {"initial": "1/t"}, r"initial must be float in \[-100, 100\] or 1/T, not '1/t'"),
        ("divmerge", {"epochs": 0}, "epochs must be int from 1, not 0"),
        ("divmerge", {"epochs": 2.0}, "epochs must be int from 1, not 2.0"),
        ("divmerge", {"inputs": 0}, "inputs must be int from 1 or none, not 0"),
        ("divmerge", {"over": "iso_c"}, "method iso_c prepares no task vectors: use one that does: drm_h"),
        ("divmerge", {"over": "tise"}, "unknown method 'tise', did you mean ties"),
        ("divmerge", {"over": "ties@scale=2"}, "ties@scale=2: scale has no part in preparing task vectors"),
        ("lines", {"over": "ties@density=0.1,scale=2"}, "scale has no part in preparing task vectors"),
        ("adamerging", {"over": "ties@density=2"}, "method ties: density must be float in"),
        ("adamerging", {"divergence": "js"}, "unknown parameter divergence"),
    ],
)
def test_wrong_calls(base, experts, method, params, message):
    with pytest.raises(UserError, match=message):
        remerge.merge(method, base, experts, **params)


def test_one_state_dict_is_no_list_of_experts(base, experts):
    with pytest.raises(UserError, match=r"expert embed_tokens\.weight is a Tensor: give its tensors by name"):
        remerge.merge("average", base, experts["cola"])


def test_weights_are_divided_by_their_sum(base, experts):
    counts = dict(zip(experts, (8551, 392702, 67349), strict=True))
    shares = [count / sum(counts.values()) for count in counts.values()]
    merged = remerge.merge("average", base, experts, weights=counts)
    for name, theta in remerge.merge("average", base, experts, weights=shares).items():
        torch.testing.assert_close(merged[name], theta)


def test_preparations_that_there_are_not(base, experts):
    deltas = Deltas(base, experts)
    with pytest.raises(UserError, match="method iso_c prepares no task vectors: use one that does: drm_h"):
        prepare("iso_c", deltas)
    with pytest.raises(UserError, match=r"unknown parameter 0\.2"):
        prepare("ties@0.2", deltas)
    with pytest.raises(UserError, match="unknown parameter dense"):
        prepare("ties@dense=0.2", deltas)
    with pytest.raises(UserError, match="take the subset before preparing"):
        prepare("ties", deltas).subset(["cola"])


def test_a_method_is_its_signature(base, experts):
    assert find("ties").settings({"density": 0.1}) == {
        "density": 0.1,
        "weights": 1.0,
        "scale": 1.0,
        "scope": "model",
        "aggregate": "mean",
    }
    assert "statistics" not in find("fisher").parameters


def test_a_learned_methods_settings():
    """DivMerge, Table 9: an initial coefficient of 0.5, 4 epochs, 200 inputs of each task or 400 by layer."""
    method = find("divmerge")
    assert method.settings({"divergence": "kl"}) == {
        "divergence": "kl",
        "level": "task",
        "over": "none",
        "learning_rate": 0.01,
        "initial": 0.5,
        "epochs": 4,
        "inputs": None,
        "replaced": 0.0,
        "stand_ins": "shuffled",
        "answer": "mean",
    }
    assert find("adamerging").settings({})["epochs"] == 5
    learning = method.learning(method.settings({"level": "layer", "initial": "1/T"}))
    assert (learning.size, learning.start(4)) == (400, 0.25)
    assert method.learning(method.settings({})).size == 200
    assert method.learning(method.settings({"inputs": 25})).size == 25
    assert method.learning(method.settings({"initial": 1})).start(4) == 1.0


def test_an_objective_has_its_own_settings_bound():
    p, q = (torch.tensor([row]).log() for row in ([0.5, 0.5], [0.9, 0.1]))
    for name, expected in (("kl", 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(5)), ("reverse_kl", 0.3680642)):
        loss = find("divmerge").objective(find("divmerge").settings({"divergence": name, "epochs": 9}))
        assert loss(p, q).item() == pytest.approx(expected, abs=1e-6)
    entropy = find("adamerging").objective(find("adamerging").settings({}))
    assert entropy(p, q).item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1), abs=1e-6)


def test_experts_may_be_a_list(base, experts):
    merged = remerge.merge("ties", base, list(experts.values()))
    named = remerge.merge("ties", base, experts)
    assert all(torch.equal(merged[name], named[name]) for name in base)
