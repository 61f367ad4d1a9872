"""Experts as weight deltas: reading, refusing, layers, ties."""

from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

import remerge
from remerge import deltas as module
from remerge.deltas import PIECE, Deltas, LowRank, aliases, layer_of, merge_state, rounded
from remerge.errors import UserError
from remerge.folders.standalone import merge_folders

GENERATOR = torch.Generator().manual_seed(0)


def random(*shape):
    return torch.randn(shape, generator=GENERATOR)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setitem(module.PIECE, "cpu", 8)


@pytest.fixture
def world():
    GENERATOR.manual_seed(0)
    base = {"a.weight": random(5, 6), "b": random(7), "steps": torch.tensor(3), "empty": torch.zeros(0, 4)}
    experts = {e: {k: v + random(*v.shape) if v.ndim else v for k, v in base.items()} for e in "xyz"}
    return base, experts


def test_stack_is_the_differences(world):
    base, experts = world
    deltas = Deltas(base, experts)
    assert list(deltas) == ["a.weight", "b", "empty"]
    assert len(deltas) == 3
    for name in deltas:
        torch.testing.assert_close(
            deltas[name], torch.stack([e[name] - base[name] for e in experts.values()])
        )


def test_pieces_cover_the_tensor_in_order(world):
    base, experts = world
    deltas = Deltas(base, experts)
    pieces = [(where, tau.clone()) for where, tau in deltas.pieces("a.weight")]
    assert [where for where, _ in pieces] == [slice(0, 8), slice(8, 16), slice(16, 24), slice(24, 30)]
    assert torch.equal(torch.cat([tau for _, tau in pieces], dim=1), deltas["a.weight"].flatten(1))


def test_low_rank_stands_for_a_delta(world):
    base, experts = world
    B, A = random(5, 2), random(2, 6)
    experts["y"]["a.weight"] = LowRank(B, A, 2.0)
    deltas = Deltas(base, experts)
    torch.testing.assert_close(deltas["a.weight"][1], 2 * B @ A)
    assert deltas.factors("a.weight") is None
    assert deltas.subset(["y"]).factors("a.weight") == [experts["y"]["a.weight"]]
    index = torch.tensor([0, 29, 13, 7])
    torch.testing.assert_close(deltas.at("a.weight", index), deltas["a.weight"].flatten(1)[:, index])
    torch.testing.assert_close(LowRank(B, A, 2.0).T.dense(), (2 * B @ A).T)


def test_gram_is_the_inner_products(world):
    base, experts = world
    deltas = Deltas(base, experts)
    tau = deltas["a.weight"].flatten(1).double()
    torch.testing.assert_close(deltas.gram("a.weight"), tau @ tau.T)
    theta = torch.stack([e["a.weight"].flatten() for e in experts.values()]).double()
    torch.testing.assert_close(deltas.gram("a.weight", weights=True), theta @ theta.T, rtol=1e-6, atol=1e-6)


def test_inputs_that_are_not_contiguous(world):
    base, experts = world
    turned = {
        e: {k: v.T.contiguous().T if v.ndim == 2 else v for k, v in s.items()} for e, s in experts.items()
    }
    assert torch.equal(Deltas(base, turned)["a.weight"], Deltas(base, experts)["a.weight"])


def test_float64_keeps_what_float32_would_cancel():
    base = {"w": torch.full((3,), 1.0, dtype=torch.float64)}
    expert = {"w": base["w"] + 1e-12}
    torch.testing.assert_close(Deltas(base, {"x": expert})["w"], torch.full((1, 3), 1e-12), rtol=1e-3, atol=0)
    merged = merge_state(base, Deltas(base, {"x": expert}).entrywise(lambda tau, name, where: tau[0]))
    assert merged["w"].dtype == torch.float64
    assert float(merged["w"][0] - 1) == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize("method", ["ties", "task_arithmetic", "tsv_m", "iso_c", "karcher", "slerp"])
def test_a_base_in_float64_is_not_rounded(method):
    """Whether a method merges entries, whole tensors or vectors of low rank."""
    torch.manual_seed(0)
    base = {"w": torch.randn(6, 5, dtype=torch.float64)}
    experts = [{"w": base["w"] + 1e-9 * torch.randn(6, 5)} for _ in range(2)]
    merged = remerge.merge(method, base, experts)["w"]
    assert float((merged - base["w"]).abs().max()) < 1e-8


def test_float64_folders_are_not_rounded(tmp_path):
    base, out = {"w": torch.randn(6, 5, dtype=torch.float64)}, tmp_path / "out"
    for name in ("base", "a", "b"):
        (tmp_path / name).mkdir()
        save_file(base, tmp_path / name / "model.safetensors")
    folders = [str(tmp_path / name) for name in ("base", "a", "b")]
    merge_folders("average", folders[0], folders[1:], out)
    assert torch.equal(load_file(out / "model.safetensors")["w"], base["w"])


def test_inputs_stay_as_they_are(world):
    base, experts = world
    before = {k: v.clone() for k, v in base.items()}, {k: v.clone() for k, v in experts["x"].items()}
    deltas = Deltas(base, experts)
    merge_state(base, deltas.combine([1.0, 2.0, 3.0]))
    merge_state(base, deltas.map(lambda tau, name, where: tau.mul_(0)).combine([1.0, 2.0, 3.0]))
    for states, kept in zip((base, experts["x"]), before, strict=True):
        assert all(torch.equal(states[k], kept[k]) for k in states)


def test_merge_state_follows_the_base_in_all_else(world):
    base, experts = world
    merged = merge_state(base, Deltas(base, experts).combine([1.0, 0.0, 0.0]))
    assert list(merged) == list(base)
    assert merged["steps"] is base["steps"]
    torch.testing.assert_close(merged["a.weight"], experts["x"]["a.weight"])
    by_hand = merge_state(base, iter([("b", torch.ones(7))]))
    torch.testing.assert_close(by_hand["b"], base["b"] + 1)
    assert by_hand["a.weight"] is base["a.weight"]


def test_tied_tensors_are_one(world):
    base, experts = world
    base["head"] = base["a.weight"]
    assert aliases(base) == {"head": "a.weight"}
    deltas = Deltas(base, {e: {**s, "head": s["a.weight"].clone()} for e, s in experts.items()})
    assert "head" not in deltas
    merged = merge_state(base, deltas.combine([1.0, 1.0, 1.0]))
    assert merged["head"].data_ptr() == merged["a.weight"].data_ptr()
    # An expert saved without the alias is as good.
    Deltas(base, experts)
    experts["x"]["head"] = experts["x"]["a.weight"] + 1
    with pytest.raises(UserError, match=r"expert x: head differs from a.weight, to which the base ties it"):
        Deltas(base, experts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("b"), "expert y: tensor b is missing: give an expert of this base"),
        (
            lambda s: s.update(b=torch.zeros(8)),
            r"expert y: b is \[8\], the base's \[7\]: give an expert of this base",
        ),
        (lambda s: s.update(b=s["b"].half()), "expert y: b is float16, the base's float32: load both in one"),
        (lambda s: s.update({"a.weight": LowRank(random(5, 2), random(2, 7))}), r"a.weight is \[5, 7\]"),
        (
            lambda s: s.update(b=s["b"].to(torch.float8_e4m3fn)),
            "expert y: b is float8_e4m3fn, quantised: give",
        ),
    ],
)
def test_experts_of_another_kind(world, change, message):
    base, experts = world
    change(experts["y"])
    with pytest.raises(UserError, match=message):
        Deltas(base, experts)


def test_no_experts(world):
    with pytest.raises(UserError, match="no experts to merge"):
        Deltas(world[0], {})


def test_an_expert_in_place_of_experts(world):
    base, experts = world
    with pytest.raises(UserError, match="is a Tensor: give its tensors by name"):
        Deltas(base, experts["x"])


def test_what_is_not_finite_is_named(world):
    base, experts = world
    deltas = Deltas(base, experts)
    experts["z"]["b"][2] = float("inf")
    with pytest.raises(UserError, match="expert z: b contains NaN or infinity"):
        deltas["b"]
    with pytest.raises(UserError, match="expert z: b contains NaN or infinity"):
        merge_state(base, deltas.combine([1.0, 1.0, 1.0]))
    experts["z"]["b"] = base["b"].clone()
    with pytest.raises(UserError, match="the merge overflows"):
        merge_state(base, Deltas(base, experts).combine([1e38, -1e38, 1e38]))
    base["b"][0] = float("nan")
    with pytest.raises(UserError, match="base: b contains NaN"):
        merge_state(base, Deltas(base, experts).combine([1.0, 1.0, 1.0]))


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "drm_h"])
def test_what_half_precision_cannot_hold_is_refused(method):
    base = {"w": torch.full((3, 4), 60_000.0).half(), "b": torch.zeros(3).half()}
    expert = {"w": torch.full((3, 4), 65_000.0).half(), "b": torch.zeros(3).half()}
    assert remerge.merge(method, base, [expert], scale=1.0)["w"].max() == 65_000
    with pytest.raises(UserError, match=r"w: .*use smaller coefficients"):
        remerge.merge(method, base, [expert], scale=2.0)


def test_what_is_written_narrower_is_refused_where_it_does_not_fit():
    with pytest.raises(UserError, match=r"w: too large for float16: .* another dtype"):
        rounded("w", torch.tensor([7e4]), torch.float16)
    assert rounded("w", torch.tensor([7e4]), torch.bfloat16) == 70_144
    assert rounded("mask", torch.tensor([-torch.inf]), torch.float16) == -torch.inf


def test_tensors_that_the_base_lacks_are_named(capsys):
    base = {"a": torch.zeros(2)}
    expert = {"a": torch.ones(2), "score.weight": torch.ones(3)}
    assert remerge.merge("average", base, [expert]).keys() == base.keys()
    assert capsys.readouterr().err == "remerge: score.weight: only in 0: not merged\n"
    tied = torch.ones(2)
    remerge.merge("average", base, [{"a": tied, "b": tied}, {"b": tied, "a": tied}])
    assert not capsys.readouterr().err


def test_factors_on_a_tied_tensor_are_those_of_the_other(world):
    base, experts = world
    base["head"] = base["a.weight"]
    change = LowRank(random(5, 2), random(2, 6))
    assert change.shape == base["a.weight"].shape
    for own, right in ((change, True), (LowRank(change.B, change.A, 2.0), False), (None, False)):
        first = base["a.weight"] if own is None else own
        states = {**experts, "x": {**experts["x"], "a.weight": first, "head": change}}
        if right:
            Deltas(base, states)
        else:
            with pytest.raises(UserError, match=r"expert x: head differs from a.weight"):
                Deltas(base, states)


def test_a_coefficient_of_zero_hides_nothing(world):
    base, experts = world
    experts["y"]["b"][3] = float("nan")
    with pytest.raises(UserError, match="expert y: b contains NaN or infinity"):
        merge_state(base, Deltas(base, experts).combine([1.0, 0.0, 0.0]))


def test_a_mean_of_bfloat16_is_rounded_once(world):
    base, experts = ({k: v.bfloat16() for k, v in s.items() if v.ndim} for s in (world[0], world[1]["x"]))
    others = {e: {k: v.bfloat16() for k, v in world[1][e].items() if v.ndim} for e in "yz"}
    chosen = {"x": experts, **others}
    merged = merge_state(base, Deltas(base, chosen).combine([0.2, 0.3, 0.5]))
    for name in base:
        exact = sum(w * chosen[e][name].double() for e, w in zip("xyz", (0.2, 0.3, 0.5), strict=True))
        assert torch.equal(merged[name], exact.float().bfloat16())


def test_subset_shares_and_orders(world):
    base, experts = world
    deltas = Deltas(base, experts)
    part = deltas.subset(["z", "x"])
    assert part.experts == ["z", "x"]
    assert torch.equal(part["b"], deltas["b"][[2, 0]])


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3.mlp.down_proj.weight", "model.layers.3"),
        ("encoder.block.11.layer.0.SelfAttention.q.weight", "encoder.block.11"),
        ("vit.encoder.layer.0.output.dense.bias", "vit.encoder.layer.0"),
        ("model.embed_tokens.weight", "other"),
        ("lm_head.weight", "other"),
        ("model.norm.weight", "other"),
    ],
)
def test_layer_is_the_block(name, layer):
    assert layer_of(name) == layer


def test_pieces_hold_whole_rows_where_asked(monkeypatch):
    monkeypatch.setitem(PIECE, "cpu", 100)
    base = {
        "wide": torch.randn(50, 7),
        "flat": torch.randn(333),
        "long": torch.randn(3, 40),
        "none": torch.empty(0, 4),
    }
    expert = {name: theta + torch.randn_like(theta) for name, theta in base.items()}
    seen: dict[str, list[int]] = {name: [] for name in base}

    def change(tau, name, where):
        seen[name].append(where.start)
        return tau

    changed = Deltas(base, {"a": expert}).map_rows(change)
    for name, theta in base.items():
        torch.testing.assert_close(changed[name][0], expert[name] - theta)
    assert seen == {"wide": [0, 56, 112, 168, 224, 280, 336], "flat": [0], "long": [0], "none": []}


@pytest.mark.parametrize(
    ("wrong", "shapes"),
    [
        (
            lambda deltas: deltas.entrywise(lambda tau, name, where: tau.mean()),
            r"\[\] of it, not float32 \[6\]",
        ),
        (lambda deltas: deltas.entrywise(lambda tau, name, where: tau), r"\[2, 6\] of it, not float32 \[6\]"),
        (
            lambda deltas: deltas.map(lambda tau, name, where: tau.mean(0)).combine([1, 1]),
            r"\[6\] of it, not",
        ),
        (
            lambda deltas: deltas.tensorwise(lambda name: deltas[name]),
            r"\[2, 2, 3\] of it, not float32 \[2, 3\]",
        ),
        (
            lambda deltas: deltas.tensorwise(lambda name: deltas[name].mean()),
            r"\[\] of it, not float32 \[2, 3\]",
        ),
    ],
)
def test_what_a_method_makes_in_another_shape_is_not_spread_over_a_tensor(wrong, shapes):
    base = {"w": torch.zeros(2, 3)}
    deltas = Deltas(base, {expert: {"w": torch.rand(2, 3)} for expert in "ab"})
    for made in (dict, partial(merge_state, base)):
        with pytest.raises(UserError, match=f"w: a method makes float32 {shapes}"):
            made(wrong(deltas))
