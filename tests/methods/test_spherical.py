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


def minus(states, base):
    return {e: {k: v - base[k] for k, v in state.items()} for e, state in states.items()}


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp_of_weights_is_mergekits(base, experts, t):
    two = {name: experts[name] for name in ("cola", "mnli")}
    expected = merge_state_dicts(two, "slerp", base="cola", parameters={"t": t})
    close(remerge.merge("slerp", base, two, t=t, of="weights"), expected)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_slerp_is_mergekits_on_task_vectors(base, experts, t):
    """Among them one of zeros in one expert, and one of zeros in both."""
    two = {name: experts[name] for name in ("cola", "mnli")}
    expected = merge_state_dicts(minus(two, base), "slerp", base="cola", parameters={"t": t})
    close(remerge.merge("slerp", base, two, t=t), {k: base[k] + v for k, v in expected.items()})


def test_slerp_keeps_the_circle(base, experts):
    """Of vectors of one length, in float64: the length stays, and t is the share of the angle."""
    tau = taus(base, experts, "layers.1.mlp.weight")[:2]
    tau = tau / tau.flatten(1).norm(dim=1)[:, None, None]
    world = {"w": base["layers.1.mlp.weight"].double()}
    merged = remerge.merge("slerp", world, [{"w": world["w"] + v} for v in tau], t=0.2)["w"] - world["w"]
    assert float(merged.norm()) == pytest.approx(1, abs=1e-6)
    angle = [float((v * merged).sum().arccos()) for v in tau]
    assert angle[0] / sum(angle) == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("of", ["deltas", "weights"])
def test_slerp_of_what_is_parallel_is_linear(base, of):
    def along(c):
        made = {k: c * v for k, v in base.items()}
        return {**made, "lm_head.weight": made["embed_tokens.weight"]}

    two = [along(c + (of == "deltas")) for c in (1.0, 3.0)]
    expected = {k: (1.5 + (of == "deltas")) * v for k, v in base.items()}
    close(remerge.merge("slerp", base, two, t=0.25, of=of), expected)


@pytest.mark.parametrize("weights", [[1.0, 0.0], [0.7, 0.3], [1.0, 3.0]])
@pytest.mark.parametrize("near", [1.0, 1e-3])
def test_nuslerp_of_weights_is_mergekits(base, experts, weights, near):
    two = {e: {k: base[k] + near * (v - base[k]) for k, v in experts[e].items()} for e in ("cola", "mnli")}
    for state in two.values():
        state["lm_head.weight"] = state["embed_tokens.weight"]
    given = {"weight": dict(zip(two, weights, strict=True))}
    expected = merge_state_dicts(two, "nuslerp", parameters=given)
    close(remerge.merge("nuslerp", base, two, weights=weights, of="weights"), expected)


@pytest.mark.parametrize("weights", [[1.0, 0.0], [0.7, 0.3], [1.0, 3.0]])
def test_nuslerp_is_mergekits_on_task_vectors(base, experts, weights):
    """Among them one of zeros in one expert, one of zeros in both, parallel, near and opposite ones."""
    two = {e: dict(experts[e]) for e in ("cola", "mnli")}
    for name, c in {"layers.0.attn.weight": 2, "layers.1.mlp.weight": 1, "layers.1.conv.weight": -2}.items():
        tau = two["cola"][name] - base[name]
        two["mnli"][name] = base[name] + c * tau
    two["mnli"]["layers.1.mlp.weight"][0, 0] += 0.05
    given = {"weight": dict(zip(two, weights, strict=True))}
    expected = merge_state_dicts({"base": base, **two}, "nuslerp", base="base", parameters=given)
    merged = remerge.merge("nuslerp", base, two, weights=weights)
    opposite = "layers.1.conv.weight"
    close(
        {k: v for k, v in merged.items() if k != opposite},
        {k: expected[k] for k in expected if k != opposite},
    )
    w, tau = torch.tensor(weights) / sum(weights), taus(base, two, opposite)
    assert torch.allclose(merged[opposite], base[opposite] + torch.tensordot(w.double(), tau, dims=1).float())


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


def test_model_stock_is_mergekits(base, experts):
    """Also where one expert has not changed a tensor, and where none has."""
    expected = merge_state_dicts({"base": base, **experts}, "model_stock", base="base")
    close(remerge.merge("model_stock", base, experts), expected)


def test_model_stock_of_orthogonal_and_of_opposite_experts_is_the_base():
    base = {"w": torch.zeros(4)}
    for vectors in (torch.eye(4)[:3], torch.tensor([[1.0, 0, 0, 2], [-3, 0, 0, -6]])):
        close(remerge.merge("model_stock", base, [{"w": v} for v in vectors]), base)


def test_karcher_is_mergekits_on_task_vectors(base, experts):
    expected = merge_state_dicts(minus(experts, base), "karcher", parameters={"max_iter": 200, "tol": 1e-6})
    merged = remerge.merge("karcher", base, experts)
    close({k: v - base[k] for k, v in merged.items()}, expected, 3e-5)


@pytest.mark.parametrize("near", [1.0, 1e-2, 1e-4])
def test_karcher_of_weights_is_mergekits_to_its_rounding(base, experts, near):
    """And to its tolerance, since it stops after ten steps, or at one of 1e-5."""
    states = {e: {k: base[k] + near * (v - base[k]) for k, v in s.items()} for e, s in experts.items()}
    for state in states.values():
        state["lm_head.weight"] = state["embed_tokens.weight"]
    close(remerge.merge("karcher", base, states, of="weights"), merge_state_dicts(states, "karcher"), 1e-4)


@pytest.mark.parametrize("near", [1.0, 1e-3])
def test_karcher_of_weights_is_mergekits_in_float64(base, experts, near):
    """In float32 mergekit loses the angles between experts that are as close as fine-tuned ones."""
    states = {e: {k: base[k] + near * (v - base[k]) for k, v in s.items()} for e, s in experts.items()}
    for state in states.values():
        state["lm_head.weight"] = state["embed_tokens.weight"]
    wide = {e: {k: v.double() for k, v in s.items()} for e, s in states.items()}
    expected = merge_state_dicts(wide, "karcher", parameters={"max_iter": 200, "tol": 1e-9})
    close(remerge.merge("karcher", base, states, of="weights"), expected, 1e-6)


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


def test_slerp_with_the_base_has_no_direction(base, experts):
    with pytest.raises(UserError, match="expert base equals the base, so it has no direction"):
        remerge.merge("slerp", base, {"cola": experts["cola"], "base": base})


@pytest.mark.parametrize("method", ["karcher", "multi_slerp"])
def test_no_direction(base, experts, method):
    with pytest.raises(UserError, match="expert same equals the base, so it has no direction"):
        remerge.merge(method, base, {**experts, "same": {k: v.clone() for k, v in base.items()}})
    opposite = {k: 2 * base[k] - v for k, v in experts["mnli"].items()}
    opposite["lm_head.weight"] = opposite["embed_tokens.weight"]
    with pytest.raises(UserError, match="the task vectors cancel and have no mean direction"):
        remerge.merge(method, base, [experts["mnli"], opposite])


@pytest.mark.parametrize("method", ["slerp", "karcher"])
def test_a_model_of_zeros_has_no_direction(base, experts, method):
    zero = {k: torch.zeros_like(v) for k, v in base.items() if k != "lm_head.weight"}
    two = {"cola": experts["cola"], "none": {**zero, "lm_head.weight": zero["embed_tokens.weight"]}}
    with pytest.raises(UserError, match="expert none is zero, so it has no direction: leave it out"):
        remerge.merge(method, base, two, of="weights")


@pytest.mark.parametrize("method", ["slerp", "nuslerp"])
def test_slerp_of_three(base, experts, method):
    with pytest.raises(UserError, match=f"^{method} takes two experts, not 3: use multi_slerp"):
        remerge.merge(method, base, experts)


def test_karcher_of_opposite_directions_is_refused():
    base = {"w": torch.zeros(1)}
    experts = [{"w": torch.tensor([-1.0])}, {"w": torch.tensor([1.0])}, {"w": torch.tensor([1.0])}]
    with pytest.raises(UserError, match="w: a task vector opposes the mean"):
        remerge.merge("karcher", base, experts)
