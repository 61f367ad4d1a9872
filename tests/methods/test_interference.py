"""Methods against interference, against mergekit, peft and the authors' algorithms in float64."""

import numpy as np
import pytest
import torch
from masks import same_masks
from mergekit.merge_methods import merge_state_dicts
from oracles import added, close, taus
from peft.utils import merge_utils

import remerge
from remerge import deltas as module
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.methods.interference._random import drawn
from remerge.methods.interference._select import kth_largest, thresholds

NAMES = ["embed_tokens.weight", "layers.0.attn.weight", "layers.0.norm.weight", "layers.1.mlp.weight"]
NAMES += ["layers.1.conv.weight", "norm.bias"]


def authors_ties(tau, density, scale):
    """The TIES authors' notebook, with exactly int(density·d) entries kept: ``[T, d]`` to ``[d]``."""
    d = tau.shape[1]
    keep = max(1, int(density * d))
    at_least = tau.abs().kthvalue(d - keep + 1, dim=1, keepdim=True).values
    trimmed = tau * (tau.abs() >= at_least)
    sign = torch.sign(trimmed.sum(dim=0))
    sign[sign == 0] = torch.sign(sign.sum())
    rows = torch.where(sign.unsqueeze(0) > 0, trimmed > 0, trimmed < 0)
    selected = trimmed * rows
    return scale * selected.sum(dim=0) / (selected != 0).sum(dim=0).clamp(min=1)


def flat(base, experts):
    return torch.cat([taus(base, experts, name).flatten(1) for name in NAMES], dim=1)


def unflat(base, vector):
    parts = vector.split([base[name].numel() for name in NAMES])
    merged = {
        name: base[name].double() + p.view(base[name].shape) for name, p in zip(NAMES, parts, strict=True)
    }
    return {**merged, "lm_head.weight": merged["embed_tokens.weight"]}


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 1.0])
def test_ties_over_the_model_is_the_authors(base, experts, density):
    expected = unflat(base, authors_ties(flat(base, experts), density, 1.3))
    close(remerge.merge("ties", base, experts, density=density, scale=1.3), expected)


@pytest.mark.parametrize("density", [0.2, 0.5])
def test_ties_over_tensors_is_mergekits(base, experts, density):
    expected = merge_state_dicts(
        {"base": base, **experts},
        "ties",
        base="base",
        parameters={"weight": 1.0, "density": density, "lambda": 0.9},
    )
    close(remerge.merge("ties", base, experts, density=density, scale=0.9, scope="tensor"), expected)


@pytest.mark.parametrize(
    ("weights", "normalize"),
    [
        *(([0.5, 0.3, 1.2], normalize) for normalize in (True, False)),
        *(([1.0, 0.0, 1e-6], normalize) for normalize in (True, False)),
        *(([2.0, 2.0, 2.0], normalize) for normalize in (True, False)),
        ([0.5, -0.3, 1.2], False),
    ],
)
def test_ties_with_weights_and_densities_of_each_expert_is_mergekits(base, experts, weights, normalize):
    densities = [0.2, 0.7, 0.7]
    theirs = {
        "weight": dict(zip(experts, weights, strict=True)),
        "density": dict(zip(experts, densities, strict=True)),
        "normalize": normalize,
        "lambda": 0.9,
    }
    expected = merge_state_dicts({"base": base, **experts}, "ties", base="base", parameters=theirs)
    ours = {"scope": "tensor", "aggregate": "mean" if normalize else "sum", "scale": 0.9}
    close(remerge.merge("ties", base, experts, density=densities, weights=weights, **ours), expected)


def test_ties_keeps_of_each_expert_its_own_share_of_the_model(base, experts):
    """Over the whole task vector, as over a tensor that has all its entries."""
    densities, weights = {"cola": 0.1, "mnli": 0.5, "sst2": 0.3}, {"cola": 2.0, "mnli": 1.0, "sst2": 0.5}
    tau = flat(base, experts)
    whole = {"all": torch.zeros(tau.shape[1])}
    states = {e: {"all": row.float()} for e, row in zip(experts, tau, strict=True)}
    given = {"density": densities, "weights": weights}
    expected = remerge.merge("ties", whole, states, **given, scope="tensor")["all"].double()
    close(remerge.merge("ties", base, experts, **given), unflat(base, expected))


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_ties_over_tensors_is_pefts(base, experts, density):
    def merge(name):
        tau = list(taus(base, experts, name))
        return merge_utils.ties(tau, torch.ones(3).double(), density)

    close(remerge.merge("ties", base, experts, density=density, scope="tensor"), added(base, merge))


def whole_numbers():
    """A base and three experts of whole numbers, which cancel exactly and tie often."""
    generator = torch.Generator().manual_seed(3)
    base = {"w": torch.zeros(5, 40), "v": torch.zeros(30), "one": torch.zeros(1)}
    return base, {
        e: {k: torch.randint(-3, 4, t.shape, generator=generator).float() for k, t in base.items()}
        for e in "abc"
    }


def test_ties_settles_exact_zeros_by_majority_and_keeps_ties_in_magnitude():
    base, experts = whole_numbers()
    experts = [experts["a"], experts["b"]]
    tau = torch.cat([torch.stack([e[k].flatten() for e in experts]) for k in base], dim=1).double()
    assert bool(((tau[0] == -tau[1]) & (tau[0] != 0)).any())
    merged = authors_ties(tau, 0.6, 1.0).split([200, 30, 1])
    expected = {k: part.view(base[k].shape) for k, part in zip(base, merged, strict=True)}
    close(remerge.merge("ties", base, experts, density=0.6), expected)


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_ties_over_tensors_elects_plus_where_experts_cancel_as_mergekit_does(aggregate):
    """Nothing is trimmed: which of those that tie mergekit keeps is its sort's choice."""
    base, experts = whole_numbers()
    given = {"weight": 1.0, "normalize": aggregate == "mean"}
    expected = merge_state_dicts({"base": base, **experts}, "ties", base="base", parameters=given)
    params = {"density": 1.0, "scope": "tensor", "aggregate": aggregate}
    close(remerge.merge("ties", base, experts, **params), expected)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "sce"])
def test_those_that_tie_with_the_last_that_mergekit_keeps_stay(method):
    """Of one expert (of two for SCE), whose entries are kept as they are, or not."""
    base, experts = whole_numbers()
    chosen = {e: experts[e] for e in ("ab" if method == "sce" else "a")}
    theirs = {
        "ties": {"weight": 1.0, "density": 0.4},
        "breadcrumbs": {"weight": 1.0, "density": 0.4, "gamma": 0.1},
        "sce": {"select_topk": 0.4},
    }[method]
    ours = {
        "ties": {"density": 0.4, "scope": "tensor"},
        "breadcrumbs": {"density": 0.4, "outliers": 0.1, "scale": 1.0},
        "sce": {"density": 0.4, "authors": True},
    }[method]
    merged = remerge.merge(method, base, chosen, **ours)
    expected = merge_state_dicts({"base": base, **chosen}, method, base="base", parameters=theirs)
    for name in base:
        assert bool((merged[name][expected[name] != 0] != 0).all())
        assert int((merged[name] != 0).sum()) >= int((expected[name] != 0).sum())


def test_aggregate_sum_leaves_the_division_out(base, experts):
    merged = remerge.merge(
        "ties", base, experts[0:1] if isinstance(experts, list) else experts, aggregate="sum"
    )
    prepared = remerge.methods.prepare("ties", Deltas(base, experts), aggregate="sum")
    tau = taus(base, experts, "layers.1.mlp.weight")
    kept = prepared["layers.1.mlp.weight"].double()
    assert torch.allclose(kept[kept != 0], tau[kept != 0], atol=1e-6)
    assert bool(((kept > 0).any(0) & (kept < 0).any(0)).logical_not().all())
    close(
        {"layers.1.mlp.weight": merged["layers.1.mlp.weight"]},
        {"layers.1.mlp.weight": base["layers.1.mlp.weight"] + kept.sum(dim=0)},
    )


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("share", [1e-6, 0.001, 0.2, 0.5, 0.999, 1.0])
def test_thresholds_are_exact(monkeypatch, heavy, share):
    """Against a full sort, with a sample that brackets, and with one value that half of the entries share."""
    monkeypatch.setitem(module.PIECE, "cpu", 1 << 12)
    generator = torch.Generator().manual_seed(0)
    base = {f"{i}.w": torch.zeros(100, 200) for i in range(5)}
    states = [
        {k: torch.randn(v.shape, generator=generator) * (10.0 if t else 1.0) for k, v in base.items()}
        for t in range(2)
    ]
    if heavy:
        for state in states:
            for w in state.values():
                w[torch.rand(w.shape, generator=generator) < 0.5] = -0.5
    found = thresholds(Deltas(base, {"a": states[0], "b": states[1]}), [share, share], list(base))
    for state, threshold in zip(states, found.tolist(), strict=True):
        magnitudes = torch.cat([w.flatten().abs() for w in state.values()]).sort(descending=True).values
        assert threshold == float(magnitudes[max(1, int(share * 100_000)) - 1])


def test_thresholds_survive_a_misleading_sample(monkeypatch):
    monkeypatch.setattr(Deltas, "sample", lambda self, names: torch.full((1, 2000), 1e-3))
    base = {"w": torch.zeros(50_000)}
    state = {"w": torch.linspace(-1, 1, 50_000)}
    found = thresholds(Deltas(base, {"a": state}), [0.2], ["w"])
    assert float(found) == float(state["w"].abs().sort(descending=True).values[9_999])


def test_masks_have_the_rate_and_depend_on_the_entry_alone():
    whole = drawn(0.3, 7, ["a", "b"], "w", 0, 200_000)
    assert float(whole.mean()) == pytest.approx(0.3, abs=0.004)
    assert abs(float(np.corrcoef(whole.numpy())[0, 1])) < 0.01
    assert torch.equal(whole[:, 4096:8192], drawn(0.3, 7, ["a", "b"], "w", 4096, 4096))
    assert torch.equal(whole[1:], drawn(0.3, 7, ["b"], "w", 0, 200_000))
    for other in (drawn(0.3, 8, ["a"], "w", 0, 200_000), drawn(0.3, 7, ["a"], "v", 0, 200_000)):
        assert not torch.equal(whole[:1], other)
    assert bool(drawn(1.0, 7, ["a"], "w", 0, 1000).all())


@pytest.mark.parametrize("method", ["dare", "dare_ties", "della"])
def test_random_methods_ignore_the_order_of_tensors_and_experts(base, experts, method):
    del base["lm_head.weight"]
    merged = remerge.merge(method, base, experts, seed=5)
    turned = remerge.merge(
        method,
        dict(reversed(base.items())),
        {name: dict(reversed(experts[name].items())) for name in reversed(experts)},
        seed=5,
    )
    for name, theta in merged.items():
        torch.testing.assert_close(turned[name], theta)
    other = remerge.merge(method, base, experts, seed=6)
    assert not torch.equal(other["layers.1.mlp.weight"], merged["layers.1.mlp.weight"])


def dropped(base, experts, name, density, seed):
    """DARE's sparse vectors in float64, from the masks themselves."""
    tau = taus(base, experts, name)
    mask = drawn(density, seed, list(experts), name, 0, base[name].numel()).double()
    return tau * mask.view(tau.shape) / density


def test_dare_is_task_arithmetic_of_rescaled_masks(base, experts):
    names = {"lm_head.weight": "embed_tokens.weight"}

    def merge(name):
        return 0.7 * dropped(base, experts, names.get(name, name), 0.3, 4).sum(dim=0)

    close(remerge.merge("dare", base, experts, density=0.3, scale=0.7, seed=4), added(base, merge))


def test_dare_keeps_the_vector_on_average(base, experts):
    deltas = Deltas(base, experts)
    name = "layers.1.mlp.weight"
    mean = torch.stack(
        [remerge.methods.prepare("dare", deltas, density=0.5, seed=s)[name] for s in range(400)]
    ).mean(dim=0)
    error = (mean - deltas[name]).norm() / deltas[name].norm()
    assert float(error) < 4 / 400**0.5


def test_dare_ties_is_the_disjoint_mean_of_rescaled_masks(base, experts):
    names = {"lm_head.weight": "embed_tokens.weight"}

    def merge(name):
        return authors_ties(dropped(base, experts, names.get(name, name), 0.4, 1).flatten(1), 1.0, 1.0).view(
            base[name].shape
        )

    close(remerge.merge("dare_ties", base, experts, density=0.4, seed=1), added(base, merge))


def test_dare_ties_of_everything_is_mergekits(base, experts):
    expected = merge_state_dicts(
        {"base": base, **experts},
        "dare_ties",
        base="base",
        parameters={"weight": 1.0, "density": 1.0, "normalize": True},
    )
    close(remerge.merge("dare_ties", base, experts, density=1.0), expected)


def matrices(state):
    """Without what mergekit's DELLA ranks otherwise, and a second name of a tensor, which has other masks."""
    return {k: v for k, v in state.items() if k not in ("layers.1.conv.weight", "lm_head.weight")}


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("theirs", ["dare_linear", "dare_ties", "della", "della_linear"])
def test_with_the_same_masks_random_methods_are_mergekits(
    base, experts, monkeypatch, theirs, normalize, rescale
):
    """With weights and densities of each expert, of which one is kept whole, and epsilons."""
    same_masks(monkeypatch, seed=3)
    base, experts = matrices(base), {e: matrices(state) for e, state in experts.items()}
    weights, densities, epsilons = [0.5, 0.3, 1.2], [0.4, 1.0, 0.7], [0.1, 0.0, 0.25]
    weights[1] *= 1 if normalize else -1
    own = {"weight": weights, "density": densities}
    own |= {"epsilon": epsilons} if "della" in theirs else {}
    given = {key: dict(zip(experts, values, strict=True)) for key, values in own.items()}
    given |= {"normalize": normalize, "rescale": rescale, "lambda": 0.9}
    expected = merge_state_dicts({"base": base, **experts}, theirs, base="base", parameters=given)
    ours = {"density": densities, "rescale": "l1" if rescale else "none", "seed": 3}
    if "linear" in theirs:
        ours |= {"scale": [0.9 * weight / (2.0 if normalize else 1.0) for weight in weights]}
        ours |= {"aggregate": "all"} if "della" in theirs else {}
    else:
        ours |= {
            "weights": weights,
            "aggregate": "mean" if normalize else "sum",
            "scale": 0.9,
            "zeros": "plus",
        }
    ours |= {"epsilon": epsilons} if "della" in theirs else {}
    method = {"dare_linear": "dare", "della_linear": "della"}.get(theirs, theirs)
    close(remerge.merge(method, base, experts, **ours), expected)


@pytest.mark.parametrize("method", ["dare_ties", "della"])
@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_random_methods_elect_plus_where_experts_cancel_as_mergekit_does(monkeypatch, method, aggregate):
    """Of DELLA, all with one probability: ranks of magnitudes that tie are its sort's choice."""
    same_masks(monkeypatch)
    base, experts = whole_numbers()
    del base["one"]
    both = {"density": 0.6} | ({"epsilon": 0.0} if method == "della" else {})
    given = {"weight": 1.0, "normalize": aggregate == "mean", "rescale": False, **both}
    states = {"base": base, **{e: {k: state[k] for k in base} for e, state in experts.items()}}
    expected = merge_state_dicts(states, method, base="base", parameters=given)
    params = {**both, "aggregate": aggregate, "rescale": "none"}
    close(remerge.merge(method, base, experts, **params, zeros="plus"), expected)
    other = remerge.merge(method, base, experts, **params)
    assert any(not torch.equal(other[name], expected[name]) for name in base)


@pytest.mark.parametrize("method", ["dare", "dare_ties", "della"])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e30])
def test_magnitudes_sum_to_what_they_did(method, size):
    """Of one expert; what is nearly nothing is left as it is, as in mergekit."""
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.zeros(300, 40), "none": torch.zeros(5, 5)}
    tau = {"w": size * torch.randn(300, 40, generator=generator), "none": torch.zeros(5, 5)}
    params = {"density": 0.3, "scale": 1.0, "seed": 1}
    made, plain = (remerge.merge(method, base, [tau], **params, rescale=r)["w"] for r in ("l1", "none"))
    assert bool((plain[plain != 0] == tau["w"][plain != 0]).all())
    before, after, left = (float(w.double().abs().sum()) for w in (tau["w"], made, plain))
    assert after == pytest.approx(left if size < 1 else before, rel=1e-5)
    assert left < 0.5 * before


def test_breadcrumbs_drop_both_ends(base, experts):
    def merge(name):
        tau = taus(base, experts, name)
        ranked = tau.flatten(1).abs().sort(dim=1, descending=True).values
        d = ranked.shape[1]
        top, kept = int(0.1 * d), max(1, int(0.5 * d))
        high, low = ranked[:, top], ranked[:, top + kept - 1]
        shape = (-1, *[1] * (tau.ndim - 1))
        mask = (tau.abs() <= high.view(shape)) & (tau.abs() >= low.view(shape))
        return 0.3 * (tau * mask).sum(dim=0)

    close(remerge.merge("breadcrumbs", base, experts, density=0.5, outliers=0.1), added(base, merge))


@pytest.mark.parametrize("aggregate", ["all", "mean", "sum"])
def test_breadcrumbs_are_mergekits_where_nothing_ties(aggregate):
    """Also of tensors with too few entries for any to be kept, or dropped at the top."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"w": (40, 50), "v": (3,), "one": (1,)}
    base, *states = (
        {k: torch.randn(s, generator=generator) for k, s in shapes.items()} for _ in ("base", *"abc")
    )
    experts = dict(zip("abc", states, strict=True))
    weights = {"a": 0.3, "b": 1.0, "c": 0.2}
    given = {"weight": weights, "density": 0.4, "gamma": 0.02, "normalize": aggregate == "mean"}
    theirs = "breadcrumbs" if aggregate == "all" else "breadcrumbs_ties"
    expected = merge_state_dicts({"base": base, **experts}, theirs, base="base", parameters=given)
    params = {"density": 0.4, "outliers": 0.02, "scale": 1.0, "weights": weights, "aggregate": aggregate}
    close(remerge.merge("breadcrumbs", base, experts, **params), expected)


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_breadcrumbs_elect_plus_where_experts_cancel_as_mergekit_does(aggregate):
    base, experts = whole_numbers()
    given = {"weight": 1.0, "normalize": aggregate == "mean"}
    expected = merge_state_dicts({"base": base, **experts}, "breadcrumbs_ties", base="base", parameters=given)
    params = {"density": 1.0, "outliers": 0.0, "scale": 1.0, "aggregate": aggregate}
    close(remerge.merge("breadcrumbs", base, experts, **params), expected)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_sce_is_mergekits(base, experts, density):
    expected = merge_state_dicts(
        {"base": base, **experts}, "sce", base="base", parameters={"select_topk": density}
    )
    for authors in (True, False):
        close(remerge.merge("sce", base, experts, density=density, authors=authors), expected)


@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("near", [1e-5, 1e-3])
@pytest.mark.parametrize("T", [1, 3])
def test_the_authors_sce_is_mergekits_of_small_entries(base, experts, density, near, T):
    """Which it weighs equally, and of a tensor so small that no entry is selected, which it leaves."""
    states = {e: {k: base[k] + near * v for k, v in s.items()} for e, s in list(experts.items())[:T]}
    for state in states.values():
        state["lm_head.weight"] = state["embed_tokens.weight"]
    given = {"select_topk": density}
    expected = merge_state_dicts({"base": base, **states}, "sce", base="base", parameters=given)
    merged = remerge.merge("sce", base, states, density=density, authors=True)
    close(minus(merged, base), minus(expected, base), 1e-2 if near == 1e-5 else 1e-4)


def minus(states, base):
    return {k: v - base[k] for k, v in states.items()}


@pytest.mark.parametrize("t", [0.0, 1e-7, 0.02, 0.5, 100.0])
def test_nearswap_is_mergekits(base, experts, t):
    """Also where the experts differ by less than the least distance, or not at all."""
    pair = {e: experts[e] for e in ("cola", "mnli")}
    pair["mnli"]["layers.1.mlp.weight"] = pair["cola"]["layers.1.mlp.weight"] + 3e-7
    expected = merge_state_dicts(pair, "nearswap", base="cola", parameters={"t": t})
    close(remerge.merge("nearswap", base, pair, t=t), expected)
    cola = pair["cola"]
    moved = max(float((theta - cola[name]).abs().max()) for name, theta in expected.items())
    assert moved <= t + 1e-6


def test_sce_of_all_entries_keeps_those_in_which_experts_agree():
    base = {"w": torch.zeros(4)}
    experts = {"a": {"w": torch.tensor([1.0, 2, 5, 0.1])}, "b": {"w": torch.tensor([6.0, -3, 5, 0.2])}}
    models = {"base": base, **experts}
    expected = merge_state_dicts(models, "sce", base="base", parameters={"select_topk": 1.0})
    assert expected["w"][2] == 5
    close(remerge.merge("sce", base, experts, density=1.0), expected)


def test_sce_weighs_experts_by_what_was_selected_of_them():
    """By hand: two of four entries are selected, of which the experts have 5 and 45 in squares."""
    base = {"w": torch.zeros(4)}
    experts = [{"w": torch.tensor([1.0, 2, 5, 0.1])}, {"w": torch.tensor([6.0, -3, 5, 0.2])}]
    expected = {"w": torch.tensor([(5 * 1 + 45 * 6) / 50, -3.0, 0, 0])}
    for density in (0.7, 0.1):  # of three that differ: two, and at least one, with which another ties
        close(remerge.merge("sce", base, experts, density=density), expected)
    small = [{"w": 1e-5 * state["w"]} for state in experts]
    close(remerge.merge("sce", base, small, density=0.7), {"w": 1e-5 * expected["w"]})


@pytest.mark.parametrize("T", [1, 2, 3])
@pytest.mark.parametrize("threshold", [1e-5, 0.3])
def test_ram_is_mergekits(base, experts, T, threshold):
    """Also RAM+ in each tensor, of which one is unchanged in one expert, and another in all."""
    states = dict(list(experts.items())[:T])
    for theirs, own, ours in (
        ("ram", {}, {}),
        ("ramplus_tl", {"r": 0.5, "alpha": 0.6}, {"boost": 0.5, "limit": 0.6, "scope": "tensor"}),
    ):
        given = {"epsilon": threshold, **own}
        expected = merge_state_dicts({"base": base, **states}, theirs, base="base", parameters=given)
        close(remerge.merge("ram", base, states, threshold=threshold, **ours), expected)


def authors_ram(tau, threshold, r, alpha):
    """RAM+ as the authors' code has it (arm-r-v2, r less 1), of flat task vectors ``[T, d]`` in float64."""
    changed = tau.abs() > threshold
    count = changed.sum(dim=0)
    merged = torch.zeros_like(tau[0])
    for own, here in zip(tau, changed, strict=True):
        overlap, alone = int((here & (count > 1)).sum()), here & (count == 1)
        ratio = overlap / int(alone.sum())
        merged += own * here * (count > 1) / count.clamp(min=1) + own * alone * (1 + r * min(alpha, ratio))
    return merged


@pytest.mark.parametrize("boost", [0.0, 0.2])
@pytest.mark.parametrize("threshold", [1e-5, 0.4])
def test_ram_over_the_model_is_the_authors(base, experts, boost, threshold):
    expected = unflat(base, 0.9 * authors_ram(flat(base, experts), threshold, boost, 1.0))
    params = {"threshold": threshold, "boost": boost, "limit": 1.0, "scale": 0.9}
    close(remerge.merge("ram", base, experts, **params), expected)


def test_ram_by_hand():
    """Magnitudes at the threshold are no change, and an expert whose every change is shared enlarges none."""
    base = {"w": torch.zeros(5)}
    experts = [{"w": torch.tensor(own)} for own in ([0.5, 2.0, 4.0, 0.0, 3.0], [0.0, -1.0, 0.5, 0.5, 1.0])]
    expected = {"w": torch.tensor([0.0, 0.5, 4.0, 0.0, 2.0])}
    close(remerge.merge("ram", base, experts, threshold=0.5), expected)
    expected["w"][2] *= 1 + 0.1 * 2  # two of its changes are shared, one is not
    close(remerge.merge("ram", base, experts, threshold=0.5, boost=0.1, limit=5.0), expected)


@pytest.mark.parametrize(("strictness", "agreement"), [(0.2, 2), (0.4, 2), (0.6, 3), (1.0, 1), (0.4, 9)])
def test_consensus_is_the_authors(base, experts, strictness, agreement):
    """With masks of all tasks from the sum of the task vectors; of nine tasks, all three there are."""

    def merge(name):
        tau = taus(base, experts, name)
        masks = tau.abs() > strictness * (base[name].double() + tau.sum(dim=0) - base[name] - tau).abs()
        return 0.3 * tau.sum(dim=0) * (masks.sum(dim=0) >= min(agreement, 3))

    params = {"strictness": strictness, "agreement": agreement, "scale": 0.3}
    merged = remerge.merge("consensus", base, experts, **params)
    close(merged, added(base, merge))
    changed = merged["layers.1.mlp.weight"] != base["layers.1.mlp.weight"]
    assert 0 < int(changed.sum()) < changed.numel()


def authors_pcb(tau, ratio):
    """The authors' PCB_merge of flat task vectors ``[T, d]``, by sorting, with divisions by zero as 0."""
    T, d = tau.shape

    def clamped(x, least, most):
        ranked = x.sort(dim=1).values
        low, high = ranked[:, int(d * least)], ranked[:, int(d * (1 - most) - 1)]
        return torch.minimum(torch.maximum(x, low[:, None]), high[:, None])

    def normalised(x):
        low, high = x.min(dim=1, keepdim=True).values, x.max(dim=1, keepdim=True).values
        return torch.nan_to_num((x - low) / (high - low), nan=0.0)

    size = clamped(tau.abs(), 1e-4, 1e-4)
    balance = (T * normalised(size) ** 2).exp() * torch.tanh(tau * tau.sum(dim=0))
    beta = normalised(clamped(balance, 1 - ratio, 0))
    return (tau.sign() * size * beta).sum(dim=0) / beta.sum(dim=0).clamp(min=1e-12)


@pytest.mark.parametrize("density", [0.05, 0.1, 0.5, 0.9, 1.0])
def test_pcb_is_the_authors(base, experts, density):
    """Also where fewer entries of a task agree with the sum than are kept."""
    names = [name for name in base if name != "lm_head.weight"]
    sizes = [base[name].numel() for name in names]
    flat = torch.cat([taus(base, experts, name).flatten(1) for name in names], dim=1)
    merged = dict(zip(names, authors_pcb(flat, density).split(sizes), strict=True))
    merged["lm_head.weight"] = merged["embed_tokens.weight"]
    found = remerge.merge("pcb", base, experts, density=density)
    close(found, added(base, lambda name: merged[name].view(base[name].shape)))


def test_pcb_of_many_small_entries():
    """As many and as small as real ones, whose balances are of the order of their squares."""
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.zeros(200, 300)}
    tau = 1e-3 * torch.randn(3, 200, 300, generator=generator)
    found = remerge.merge("pcb", base, [{"w": own} for own in tau], density=0.2)
    expected = authors_pcb(tau.flatten(1).double(), 0.2).view(200, 300)
    close(found, {"w": expected}, 1e-4)
    assert 0.3 < float((expected != 0).double().mean()) < 0.6


def test_pcb_of_experts_that_are_the_base_is_the_base(base):
    merged = remerge.merge("pcb", base, [base, base])
    assert all(torch.equal(merged[name], base[name]) for name in base)


def test_della_draws_by_rank_and_divides_by_the_probability(base, experts):
    density, epsilon, seed = 0.5, 0.3, 2

    def sparse(name):
        tau = taus(base, experts, name).float()
        out = torch.zeros(tau.shape, dtype=torch.float64)
        for t, expert in enumerate(experts):
            rows = tau[t].reshape(-1, tau.shape[-1]) if tau.ndim > 2 else tau[t].view(1, -1)
            order = rows.abs().argsort(dim=1, stable=True)
            rank = torch.empty_like(rows)
            rank.scatter_(1, order, torch.arange(rows.shape[1]).float().expand_as(rows))
            p = density - epsilon + 2 * epsilon * rank.double() / (rows.shape[1] - 1)
            mask = drawn(p.reshape(1, -1), seed, [expert], name, 0, rows.numel()).view(rows.shape)
            out[t] = (rows.double() * mask / p).view(out[t].shape)
        return out

    names = {"lm_head.weight": "embed_tokens.weight"}

    def merge(name):
        shape = base[name].shape
        return authors_ties(sparse(names.get(name, name)).flatten(1), 1.0, 1.0).view(shape)

    merged = remerge.merge("della", base, experts, density=density, epsilon=epsilon, seed=seed)
    close(merged, added(base, merge))


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("nearswap", {}, "nearswap takes two experts, not 3: merge two at a time"),
        ("nearswap", {"t": -1}, "t must be float from 0, not -1"),
        ("breadcrumbs", {"density": 0.9, "outliers": 0.2}, "sum to more than 1"),
        ("della", {"density": 0.1, "epsilon": 0.15}, r"must be in \(0, 1\]: lower epsilon"),
        ("ties", {"density": 0.0}, r"density must be float in \(0, 1\] or one .* under each .*, not 0.0"),
        ("ties", {"weights": [1.0, 2.0]}, "ties: weights: 2 numbers for 3 experts: give one per expert, by"),
        ("ties", {"weights": -1.0}, r"weights: -1 is negative: give numbers of 0 or more, or aggregate=sum"),
        ("ties", {"scope": "layer"}, r"scope must be model \| tensor, not 'layer'"),
        ("dare", {"seed": 0.5}, "seed must be int, not 0.5"),
    ],
)
def test_out_of_range(base, experts, method, params, message):
    with pytest.raises(UserError, match=message):
        remerge.merge(method, base, experts, **params)


@pytest.mark.parametrize("k", [1, 2, 5_000, 19_999, 20_000])
@pytest.mark.parametrize("off", [1e-3, 1.0, 1e3])
def test_the_kth_largest_is_found_where_the_sample_is_of_other_numbers(k, off):
    """Factors multiplied at single positions round otherwise than whole products: all may lie outside."""
    values = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    sample = off * values[:, ::7]
    found = kth_largest(lambda: iter(values.clone().split(4096, dim=1)), lambda: sample.clone(), k, 20_000)
    assert torch.equal(found, values.abs().sort(dim=1, descending=True).values[:, k - 1])
