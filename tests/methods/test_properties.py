"""What must hold of every method, on random state dicts."""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracles import close

import remerge
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.methods import find

SETTINGS = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
PARAMS = {
    "average": {},
    "task_arithmetic": {},
    "lines": {},
    "metagpt": {},
    "multi_slerp": {},
    "karcher": {},
    "model_stock": {},
    "ties": {"density": 0.5},
    "dare": {"density": 0.5},
    "dare_ties": {"density": 0.5},
    "breadcrumbs": {"density": 0.5},
    "della": {"density": 0.5},
    "consensus": {},
    "sce": {"density": 0.5},
    "pcb": {"density": 0.5},
    "ram": {"boost": 0.1, "limit": 1.0},
    "drm_h": {},
    "drm_v": {},
    "knots": {},
    "tsv_m": {},
    "iso_c": {},
    "iso_cts": {},
    "star": {},
    "cart": {},
    "wudi": {"steps": 20},
    "doge": {"steps": 20},
}
SPHERICAL = [name for name in PARAMS if find(name).family == "spherical"]
PAIRS = [name for name, method in remerge.methods().items() if method.needs.experts == 2]
RESCALES = [name for name in PARAMS if find(name).rescales]


@st.composite
def worlds(draw, most=4):
    """A base and 1 to ``most`` experts, near it or not; shapes from 1-D to 3-D."""
    n, m, seed = draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.integers(0, 10_000))
    T, scale = draw(st.integers(1, most)), draw(st.sampled_from([1e-3, 1.0, 30.0]))
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.w": (n, m), "1.w": (m, n), "0.b": (n,), "conv": (2, n, m)}
    base = {k: torch.randn(s, generator=generator) for k, s in shapes.items()}
    experts = {
        f"e{t}": {k: v + scale * torch.randn(v.shape, generator=generator) for k, v in base.items()}
        for t in range(T)
    }
    return base, experts


@pytest.mark.parametrize("method", PARAMS)
@SETTINGS
@given(world=worlds())
def test_order_of_experts_does_not_matter(method, world):
    base, experts = world
    # A joint basis is rounding's choice where singular values tie, so its tolerance is wider.
    try:
        merged = remerge.merge(method, base, experts, **PARAMS[method])
    except UserError:
        # In tensors of one entry directions cancel.
        assume(method not in ("karcher", "multi_slerp"))
        raise
    turned = remerge.merge(method, base, dict(reversed(experts.items())), **PARAMS[method])
    close(turned, merged, 1e-3 if find(method).family == "decomposition" else 2e-5)


@pytest.mark.parametrize("method", PARAMS)
def test_parameters_are_merged_as_tensors_are(method):
    """`dict(model.named_parameters())`, whose gradients nobody asks for."""
    modules = [torch.nn.Linear(6, 5) for _ in range(3)]
    base, *experts = (dict(module.named_parameters()) for module in modules)
    plain, *others = (module.state_dict() for module in modules)
    merged = remerge.merge(method, base, experts, **PARAMS[method])
    close(merged, remerge.merge(method, plain, others, **PARAMS[method]), 0)
    assert not any(theta.requires_grad for theta in merged.values())


@pytest.mark.parametrize(
    "method", ["average", "metagpt", "multi_slerp", "karcher", "model_stock", "sce", "ram"]
)
@SETTINGS
@given(world=worlds(most=1), T=st.integers(1, 5))
def test_identical_experts_give_that_expert(method, world, T):
    base, experts = world
    close(remerge.merge(method, base, [experts["e0"]] * T), experts["e0"])


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("ties", {"density": 1.0}),
        ("dare_ties", {"density": 1.0}),
        ("dare", {"density": 1.0, "scale": 0.25}),
        ("breadcrumbs", {"density": 1.0, "outliers": 0.0, "scale": 0.25}),
        ("della", {"density": 1.0, "epsilon": 0.0}),
        ("consensus", {"strictness": 0.3, "agreement": 4, "scale": 0.25}),
        ("task_arithmetic", {"scale": 0.25}),
        ("lines", {"beta": 0.0}),
        ("drm_h", {"density": 1.0, "tolerance": 0.0}),
        ("drm_v", {"density": 1.0, "tolerance": 0.0}),
        ("knots", {"density": 1.0}),
    ],
)
@SETTINGS
@given(world=worlds(most=1))
def test_identical_experts_kept_whole_give_that_expert(method, params, world):
    base, experts = world
    close(remerge.merge(method, base, [experts["e0"]] * 4, **params), experts["e0"], 1e-4)


@pytest.mark.parametrize("of", ["deltas", "weights"])
@SETTINGS
@given(world=worlds(most=1), t=st.floats(0, 1))
def test_slerp_of_identical_experts(of, world, t):
    base, experts = world
    close(remerge.merge("slerp", base, [experts["e0"]] * 2, t=t, of=of), experts["e0"])


@SETTINGS
@given(world=worlds(most=1), T=st.integers(1, 5))
def test_karcher_of_identical_weights(world, T):
    base, experts = world
    close(remerge.merge("karcher", base, [experts["e0"]] * T, of="weights"), experts["e0"])


def test_which_methods_rescale():
    rescale = (
        "task_arithmetic ties dare dare_ties breadcrumbs della consensus sce pcb ram "
        "drm_h drm_v knots tsv_m star"
    )
    assert {name for name, method in remerge.methods().items() if method.rescales} == set(rescale.split())


@pytest.mark.parametrize("method", RESCALES)
@SETTINGS
@given(world=worlds(), scale=st.floats(-2, 2))
def test_scale_scales_the_merged_delta(method, world, scale):
    base, experts = world
    deltas = Deltas(base, experts)

    def merged(scale):
        settings = find(method).settings({**PARAMS[method], "scale": scale})
        return dict(find(method).function(deltas, **settings))

    once, times = merged(1.0), merged(scale)
    for name in base:
        size = float(once[name].abs().max())
        assert float((times[name] - scale * once[name]).abs().max()) <= 1e-6 * max(size, 1e-30)


@SETTINGS
@given(world=worlds(), scale=st.floats(-2, 2))
def test_scale_of_iso_c_scales_linear_layers_alone(world, scale):
    base, experts = world
    deltas = Deltas(base, experts)
    once, times = (dict(find("iso_c").function(deltas, scale=s)) for s in (1.0, scale))
    for name in base:
        expected = once[name] if name in ("0.b", "conv") else scale * once[name]
        torch.testing.assert_close(
            times[name], expected, rtol=1e-5, atol=1e-6 * float(once[name].abs().max())
        )


@pytest.mark.parametrize("method", [m for m in PARAMS if m not in SPHERICAL])
@SETTINGS
@given(world=worlds(most=1))
def test_experts_that_equal_the_base_give_the_base(method, world):
    base, _ = world
    close(remerge.merge(method, base, [base, base], **PARAMS[method]), base, 1e-6)


@pytest.mark.parametrize("method", ["ties", "dare_ties", "drm_h", "drm_v", "knots", "metagpt", "doge", "ram"])
@SETTINGS
@given(world=worlds())
def test_a_zero_task_vector_does_not_count(method, world):
    """Disjoint means leave it out; thresholds are of each expert's own, or all is kept."""
    base, experts = world
    params = {} if method in ("metagpt", "ram") else {"density": 1.0}
    merged = {k: v for k, v in remerge.merge(method, base, experts, **params).items()}
    joined = remerge.merge(method, base, {**experts, "zero": base}, **params)
    names = ["0.w", "1.w"] if method in ("drm_h", "drm_v", "knots") else list(base)
    close({k: joined[k] for k in names}, {k: merged[k] for k in names}, 1e-4)


@SETTINGS
@given(world=worlds(most=3))
def test_drm_v_is_drm_h_of_the_transposed(world):
    base, experts = world
    names = ["0.w", "1.w"]

    def turned(state):
        return {k: state[k].T.contiguous() for k in names}

    vertical = remerge.merge("drm_v", base, experts)
    horizontal = remerge.merge("drm_h", turned(base), {e: turned(s) for e, s in experts.items()})
    close({k: vertical[k] for k in names}, {k: horizontal[k].T for k in names}, 1e-5)


@pytest.mark.parametrize("method", [*PARAMS, *PAIRS])
def test_bfloat16_is_merged_in_float32_and_rounded_once(base, experts, method):
    def rounded(state):
        out = {k: v.bfloat16() for k, v in state.items() if k != "lm_head.weight"}
        return {**out, "lm_head.weight": out["embed_tokens.weight"]}

    chosen = {e: experts[e] for e in (["cola", "mnli"] if method in PAIRS else experts)}
    base, chosen = rounded(base), {e: rounded(s) for e, s in chosen.items()}
    params = PARAMS.get(method, {})
    merged = remerge.merge(method, base, chosen, **params)

    def wide(state):
        out = {k: v.float() for k, v in state.items() if k != "lm_head.weight"}
        return {**out, "lm_head.weight": out["embed_tokens.weight"]}

    expected = remerge.merge(method, wide(base), {e: wide(s) for e, s in chosen.items()}, **params)
    for name, theta in merged.items():
        assert theta.dtype == torch.bfloat16
        torch.testing.assert_close(theta.float(), expected[name], rtol=2**-8, atol=1e-4)
    assert merged["lm_head.weight"].data_ptr() == merged["embed_tokens.weight"].data_ptr()


@pytest.mark.parametrize("method", [*PARAMS, *PAIRS])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_a_number_is_reported(base, experts, method, bad):
    chosen = {e: experts[e] for e in ("cola", "mnli")}
    chosen["mnli"]["layers.1.mlp.weight"][3, 4] = bad
    with pytest.raises(UserError, match="NaN or infinity"):
        remerge.merge(method, base, chosen, **PARAMS.get(method, {}))
