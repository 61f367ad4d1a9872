"""mergekit makes of a method's recipe what the method makes."""

import pytest
from mergekit.merge_methods import merge_state_dicts
from oracles import close

import remerge
from remerge.methods import find

RECIPES = [
    ("average", {}),
    ("average", {"weights": [0.2, 0.6]}),
    ("task_arithmetic", {"scale": {"mnli": -0.4, "cola": 0.5}}),
    ("slerp", {"t": 0.3, "of": "weights"}),
    ("multi_slerp", {"weights": [0.9, 0.3]}),
    ("nuslerp", {"weights": [0.9, 0.3]}),
    ("nuslerp", {"of": "weights"}),
    ("karcher", {"of": "weights"}),
    ("nearswap", {"t": 0.02}),
    ("breadcrumbs", {"density": 0.5, "outliers": 0.1, "scale": [0.3, -0.5]}),
    ("breadcrumbs", {"density": 0.5, "outliers": 0.1, "weights": [0.3, 0.5], "scale": [2, -1]}),
    ("breadcrumbs", {"density": 0.5, "weights": [0.3, 0.5], "scale": 0.8, "aggregate": "mean"}),
    ("ram", {"threshold": 0.1}),
    ("ram", {"boost": 0.3, "limit": 0.5, "scope": "tensor"}),
    ("sce", {"density": 0.3, "authors": True}),
    ("model_stock", {}),
    ("ties", {"scope": "tensor", "density": 0.3, "scale": 0.8}),
    ("ties", {"scope": "tensor", "density": 0.3, "scale": 0.4, "aggregate": "sum"}),
    ("ties", {"scope": "tensor", "density": {"mnli": 0.2, "cola": 0.7}, "weights": [0.5, 2]}),
]


@pytest.mark.parametrize(("method", "params"), RECIPES, ids=str)
def test_a_recipe_makes_the_merge(base, experts, method, params):
    pair = {e: dict(experts[e]) for e in ("cola", "mnli")}
    for state in (base, *pair.values()):
        # Of what no expert changed mergekit makes arbitrary directions.
        del state["norm.bias"]
    recipe = find(method).mergekit(list(pair), **find(method).settings(params))
    own = {"weight": recipe.weights, "density": recipe.densities}
    given = {key: dict(zip(pair, values, strict=True)) for key, values in own.items() if values}
    start = {"base": "base", "first": "cola", "none": None}[recipe.base]
    models = {"base": base, **pair} if start == "base" else pair
    expected = merge_state_dicts(models, recipe.name, base=start, parameters={**recipe.parameters, **given})
    close(remerge.merge(method, base, pair, **params), expected, 3e-5)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("slerp", {}),
        ("karcher", {}),
        ("karcher", {"of": "weights", "weights": [0.4, 0.6]}),
        ("sce", {"authors": True, "scale": 0.5}),
        ("ram", {"scale": 0.5}),
        ("ram", {"boost": 0.1}),
        ("breadcrumbs", {"aggregate": "sum", "scale": [0.5, 1.0]}),
        ("ties", {}),
        ("ties", {"scope": "tensor", "scale": [0.5, 1.0]}),
        *((name, {}) for name in ("dare", "dare_ties", "della", "drm_h", "drm_v", "knots")),
        *(
            (name, {})
            for name in (
                "consensus",
                "sce",
                "pcb",
                "tsv_m",
                "star",
                "cart",
                "iso_c",
                "iso_cts",
                "wudi",
                "doge",
                "lines",
                "metagpt",
                "fisher",
            )
        ),
        *((name, {}) for name in ("regmean", "divmerge", "adamerging")),
    ],
    ids=str,
)
def test_what_mergekit_does_otherwise_has_no_recipe(method, params):
    assert find(method).mergekit(["cola", "mnli"], **find(method).settings(params)) is None
