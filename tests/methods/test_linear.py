"""Linear methods against mergekit and float64."""

import pytest
import torch
from mergekit.merge_methods import merge_state_dicts
from oracles import added, close, taus

import remerge
from remerge.deltas import Deltas, LowRank
from remerge.errors import UserError
from remerge.methods import find, prepare


def test_average_is_mergekit_linear(base, experts):
    expected = merge_state_dicts(experts, "linear", parameters={"weight": 1.0})
    close(remerge.merge("average", base, experts), expected)


def test_weighted_average_is_mergekit_linear(base, experts):
    weights = {"cola": 0.5, "mnli": 0.2, "sst2": 0.3}
    expected = merge_state_dicts(experts, "linear", parameters={"weight": weights})
    close(remerge.merge("average", base, experts, weights=[5 / 7, 2 / 7, 3 / 7]), expected)


@pytest.mark.parametrize("scale", [0.4, [0.5, -0.2, 1.0]])
def test_task_arithmetic_is_mergekits(base, experts, scale):
    lam = scale if isinstance(scale, list) else [scale] * 3
    expected = merge_state_dicts(
        {"base": base, **experts},
        "task_arithmetic",
        base="base",
        parameters={"weight": dict(zip(experts, lam, strict=True))},
    )
    close(remerge.merge("task_arithmetic", base, experts, scale=scale), expected)


def test_layerwise_takes_coefficients_by_layer(base, experts):
    scale = {"layers.0": [0.1, 0.2, 0.3], "layers.1": [1.0, 0.0, -1.0], "other": [0.5, 0.5, 0.5]}

    def merge(name):
        lam = next((v for layer, v in scale.items() if name.startswith(layer)), scale["other"])
        return torch.tensordot(torch.tensor(lam).double(), taus(base, experts, name), dims=1)

    close(remerge.merge("layerwise", base, experts, scale=scale), added(base, merge))


@pytest.mark.parametrize(("over", "alpha"), [("none", None), ("none", 0.2), ("ties@density=0.5", None)])
def test_lines_is_the_authors(base, experts, over, alpha):
    """Of two layers, the first takes alpha and the second alpha + beta; what is in no layer takes alpha."""
    prepared = prepare(over, Deltas(base, experts))
    own = {name: prepared[name].double().sum(dim=0) for name in prepared}
    own["lm_head.weight"] = own["embed_tokens.weight"]
    summed = {name: taus(base, experts, name).sum(dim=0) for name in prepared}
    first = sum(tau.abs().sum() for tau in summed.values()) / sum(own[n].abs().sum() for n in prepared) / 3
    lam = float(first) if alpha is None else alpha
    merged = remerge.merge("lines", base, experts, over=over, alpha=alpha, beta=0.7)
    close(merged, added(base, lambda name: (lam + 0.7 * name.startswith("layers.1.")) * own[name]))


def test_lines_counts_the_layers_of_each_stack():
    """Ten comes after nine; a T5's blocks contain numbered parts; a number may be missing."""
    names = [f"encoder.block.{k}.layer.1.wo.weight" for k in range(11)]
    names += [f"decoder.block.{k}.layer.2.wo.weight" for k in (0, 1, 3)] + ["shared.weight", "one.0.weight"]
    base = {name: torch.zeros(2) for name in names}
    merged = remerge.merge("lines", base, [{name: torch.ones(2) for name in names}], alpha=0.0, beta=1.0)
    found = {name: float(theta[0]) for name, theta in merged.items()}
    expected = [k / 10 for k in range(11)] + [0, 0.5, 1, 0, 0]
    assert list(found.values()) == pytest.approx(expected)


def test_lines_counts_no_layers_of_a_head():
    """The first and third modules of a classifier that is an MLP are not the shallowest and the deepest."""
    names = [f"model.layers.{k}.w" for k in range(3)] + [f"classifier.{k}.weight" for k in (0, 2)]
    base = {name: torch.zeros(2) for name in names}
    merged = remerge.merge("lines", base, [{name: torch.ones(2) for name in names}], alpha=0.2, beta=1.0)
    assert [float(theta[0]) for theta in merged.values()] == pytest.approx([0.2, 0.7, 1.2, 0.2, 0.2])


def test_lines_of_experts_that_are_the_base_is_the_base(base):
    merged = remerge.merge("lines", base, [base, base], over="ties")
    assert all(torch.equal(merged[name], base[name]) for name in base)


def test_metagpt_is_the_papers(base, experts):
    """Norms of the whole model, in which the tied embedding counts once."""
    names = [name for name in base if name != "lm_head.weight"]
    squares = sum(taus(base, experts, name).flatten(1).square().sum(dim=1) for name in names)
    lam = squares / squares.sum()
    merged = remerge.merge("metagpt", base, experts)
    close(merged, added(base, lambda n: torch.tensordot(lam, taus(base, experts, n), dims=1)))
    expected = remerge.merge("task_arithmetic", base, experts, scale=lam.tolist())
    assert all(torch.equal(merged[name], expected[name]) for name in base)


@pytest.mark.parametrize("size", [1e-30, 1e25])
def test_metagpt_of_vectors_whose_squares_float32_cannot_hold(size):
    base = {"w": torch.zeros(40)}
    merged = remerge.merge("metagpt", base, [{"w": torch.full((40,), own)} for own in (size, 3 * size)])
    torch.testing.assert_close(merged["w"], torch.full((40,), 2.8 * size), rtol=1e-6, atol=0)


def test_metagpt_takes_the_norms_of_adapters_from_their_factors(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    B, A = torch.randn(2, 9, 3, generator=generator), torch.randn(2, 3, 7, generator=generator)
    base = {"0.w": torch.zeros(9, 7), "1.w": torch.zeros(9, 7)}
    adapters = {"a": {"0.w": LowRank(B[0], A[0], 0.5)}, "b": {"0.w": LowRank(B[1], A[1], 2.0)}}
    adapters["b"]["1.w"] = LowRank(B[0], A[1])
    deltas = Deltas(base, {expert: {**base, **factors} for expert, factors in adapters.items()})
    squares = [sum(float(f.dense().square().sum()) for f in own.values()) for own in adapters.values()]
    monkeypatch.setattr(Deltas, "pieces", None)
    lam = find("metagpt").function(deltas).lam
    assert lam["0.w"] == lam["1.w"] == pytest.approx([square / sum(squares) for square in squares])


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"layers.0": [1.0] * 3, "other": [1.0] * 3}, "layers.1 has no coefficients"),
        ({f"layers.{i}": [1.0] * 3 for i in range(3)} | {"other": [1.0] * 3}, "layers.2 is not a layer"),
        ({f"layers.{i}": [1.0] * 2 for i in range(2)} | {"other": [1.0] * 2}, "2 numbers for 3 experts"),
    ],
)
def test_layerwise_wants_every_layer(base, experts, scale, message):
    with pytest.raises(UserError, match=message):
        remerge.merge("layerwise", base, experts, scale=scale)


def test_layerwise_names_a_layer_that_no_adapter_changes():
    adapter = {"layers.0.w": LowRank(torch.ones(3, 1), torch.ones(1, 2))}
    names = [f"layers.{k}.w" for k in range(2)]
    deltas = Deltas({"layers.0.w": torch.zeros(3, 2)}, {"a": adapter}, names)
    with pytest.raises(UserError, match=r"layers\.1 is changed by no expert: name the layers layers\.0$"):
        dict(find("layerwise").function(deltas, scale={"layers.0": 1.0, "layers.1": 1.0}))


def test_layerwise_wants_its_scale(base, experts):
    with pytest.raises(UserError, match="parameter scale is missing: give it"):
        remerge.merge("layerwise", base, experts)


def test_weights_must_be_some(base, experts):
    with pytest.raises(UserError, match="all are zero"):
        remerge.merge("average", base, experts, weights=[0, 0, 0])


def test_numbers_by_the_experts_names(base, experts):
    numbers = {"sst2": 0.1, "cola": 0.7, "mnli": -0.3, "another": 5}
    merged = remerge.merge("task_arithmetic", base, experts, scale=numbers)
    assert all(
        torch.equal(theta, merged[name])
        for name, theta in remerge.merge("task_arithmetic", base, experts, scale=[0.7, -0.3, 0.1]).items()
    )
    layers = dict.fromkeys(("layers.0", "layers.1", "other"), numbers)
    close(remerge.merge("layerwise", base, experts, scale=layers), merged)
    weights = {"sst2": 0.2, "cola": 0.2, "mnli": 0.6}
    close(
        remerge.merge("average", base, experts, weights=weights),
        remerge.merge("average", base, experts, weights=[0.2, 0.6, 0.2]),
    )
    with pytest.raises(UserError, match="task_arithmetic: scale: no number for expert mnli"):
        remerge.merge("task_arithmetic", base, experts, scale={"cola": 1, "sst2": 1})
    with pytest.raises(UserError, match="method task_arithmetic: scale must be"):
        remerge.merge("task_arithmetic", base, experts, scale={**numbers, "cola": 1000})
