"""A merge as a mergekit configuration, to store beside the merge."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from remerge.folders.card import Coefficients
from remerge.methods import Method, find
from remerge.variants import UNPREPARED

RECIPE = "mergekit_config.yml"
"""The file beside a merge; mergekit uses the same name."""

HINT = (
    f"`{RECIPE}` makes the same merge with mergekit 0.1.5, if it knows the architecture; "
    "it is on the hub only if all its models are."
)


def recipe_of(
    method: Method,
    settings: Mapping[str, Any],
    base: str,
    experts: Mapping[str, str],
    coefficients: Coefficients,
    dtype: str,
    stored: Collection[str],
) -> dict[str, Any] | None:
    """The configuration with which mergekit 0.1.5 makes the same merge, or None if it has no such method.

    None also where it would not find a layer by the name that transformers gives it in memory.

    Args:
        method: the method that merged the experts.
        settings: all its parameters.
        base: the base's hub id or folder.
        experts: the same of each expert, in the order of the merge.
        coefficients: the learned coefficients, empty for methods that learn nothing.
        dtype: the dtype in which the merge is stored.
        stored: the names of tensors in the base's files.
    """
    if method.learned:
        if settings["over"] not in UNPREPARED:
            return None
        method, settings = _as_given(coefficients)
    recipe = method.mergekit(list(experts), **settings)
    by_layer = [weight for weight in recipe.weights if isinstance(weight, list)] if recipe else []
    parts = {entry["filter"] for weight in by_layer for entry in weight if "filter" in entry}
    if recipe is None or not all(any(part in name for name in stored) for part in parts):
        return None
    values = {"weight": recipe.weights, "density": recipe.densities}
    own = [{key: given[t] for key, given in values.items() if given} for t in range(len(experts))]
    first = next(iter(experts.values()))
    written = {
        "merge_method": recipe.name,
        "base_model": {"base": reference(base), "first": reference(first), "none": None}[recipe.base],
        "models": [
            {"model": reference(source), **({"parameters": parameters} if parameters else {})}
            for source, parameters in zip(experts.values(), own, strict=True)
        ],
        "parameters": recipe.parameters,
        "dtype": "float32",
        "out_dtype": dtype,
    }
    return {key: value for key, value in written.items() if value}


def reference(source: str) -> str | dict[str, Any]:
    """A model for mergekit, which in a text takes what follows + for an adapter, and @ for a revision.

    Args:
        source: a folder or hub id.
    """
    special = Path(source).is_dir() and not {"+", "@"}.isdisjoint(source)
    return {"model": {"path": source}} if special else source


def _as_given(coefficients: Coefficients) -> tuple[Method, dict[str, Any]]:
    """The method that makes the merge with the learned coefficients, and its settings."""
    first = next(iter(coefficients.values()))
    if not isinstance(first, Mapping):
        return find("task_arithmetic"), {"scale": coefficients}
    by_layer = {
        layer: {expert: c[layer] for expert, c in coefficients.items() if isinstance(c, Mapping)}
        for layer in first
    }
    return find("layerwise"), {"scale": by_layer}
