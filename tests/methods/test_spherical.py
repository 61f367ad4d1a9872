"""Spherical methods against mergekit, and that they lie in the span."""

import pytest
import torch
from mergekit.merge_methods import merge_state_dicts
from oracles import close, taus

import remerge
from remerge.errors import UserError


def changed(states):
    """Without what no expert changed, of which mergekit makes NaN or arbitrary directions."""
    return {k: v for k, v in states.items() if k != "norm.bias"}


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp_is_mergekits(base, experts, t):
    two = {name: experts[name] for name in ("cola", "mnli")}
    expected = merge_state_dicts(two, "slerp", base="cola", parameters={"t": t})
    close(remerge.merge("slerp", base, two, t=t), expected)


def test_slerp_of_parallel_weights_is_linear(base):
    two = [{k: c * v for k, v in base.items()} for c in (1.0, 3.0)]
    for state in two:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    close(remerge.merge("slerp", base, two, t=0.25), {k: 1.5 * v for k, v in base.items()})


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 0.2, 0.3]])
def test_multi_slerp_is_mergekits(base, experts, weights):
    given = dict(zip(experts, weights, strict=True))
    expected = merge_state_dicts(
        {"base": changed(base)} | {e: changed(s) for e, s in experts.items()},
        "multislerp",
        base="base",
        parameters={"weight": given},
    )
    merged = remerge.merge("multi_slerp", base, experts, weights=weights)
    close(changed(merged), expected)
    assert torch.equal(merged["norm.bias"], base["norm.bias"])


def test_karcher_is_mergekits_on_task_vectors(base, experts):
    vectors = {e: {k: v - base[k] for k, v in s.items()} for e, s in experts.items()}
    expected = merge_state_dicts(vectors, "karcher", parameters={"max_iter": 200, "tol": 1e-6})
    merged = remerge.merge("karcher", base, experts)
    close({k: v - base[k] for k, v in merged.items()}, expected, 3e-5)


@pytest.mark.parametrize("method", ["karcher", "multi_slerp"])
def test_result_lies_in_the_span_at_the_mean_length(base, experts, method):
    merged = remerge.merge(method, base, experts)
    for name in ("layers.0.attn.weight", "embed_tokens.weight"):
        tau = taus(base, experts, name).flatten(1)
        delta = (merged[name].double() - base[name].double()).flatten()
        lam = torch.linalg.lstsq(tau.T, delta[:, None]).solution
        assert float((tau.T @ lam - delta[:, None]).norm()) < 1e-5 * float(delta.norm())
        assert float(delta.norm()) == pytest.approx(float(tau.norm(dim=1).mean()), rel=1e-5)


def test_karcher_mean_balances_the_angles(base, experts):
    """At the Karcher mean the pulls along the great circles cancel."""
    merged = remerge.merge("karcher", base, experts)
    tau = taus(base, experts, "layers.1.mlp.weight").flatten(1)
    units = tau / tau.norm(dim=1, keepdim=True)
    u = (merged["layers.1.mlp.weight"].double() - base["layers.1.mlp.weight"].double()).flatten()
    u = u / u.norm()
    cos = units @ u
    phi = cos.arccos()
    pull = ((phi / phi.sin())[:, None] * (units - cos[:, None] * u)).sum(dim=0)
    assert float(pull.norm()) < 1e-5


@pytest.mark.parametrize("method", ["karcher", "multi_slerp"])
def test_no_direction(base, experts, method):
    with pytest.raises(UserError, match="expert same equals the base, so it has no direction"):
        remerge.merge(method, base, {**experts, "same": {k: v.clone() for k, v in base.items()}})
    opposite = {k: 2 * base[k] - v for k, v in experts["mnli"].items()}
    opposite["lm_head.weight"] = opposite["embed_tokens.weight"]
    with pytest.raises(UserError, match="the task vectors cancel, there is no mean direction"):
        remerge.merge(method, base, [experts["mnli"], opposite])


def test_slerp_of_three(base, experts):
    with pytest.raises(UserError, match="slerp takes two experts, not 3: use multi_slerp"):
        remerge.merge("slerp", base, experts)


def test_karcher_of_opposite_directions_is_refused():
    base = {"w": torch.zeros(1)}
    experts = [{"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}, {"w": torch.tensor([1.0])}]
    with pytest.raises(UserError, match="w: a task vector opposes the mean"):
        remerge.merge("karcher", base, experts)
