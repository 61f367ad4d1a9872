"""What goes with the weights of a merge: the model card, and mergekit's recipe where it has one."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from remerge.methods import Method, normalised, per_expert

Coefficients = Mapping[str, float | Mapping[str, float]]
"""What was learned: for each expert a number, or one for each layer."""


def model_card(
    title: str,
    base: str,
    experts: Mapping[str, str],
    method: Method,
    params: Mapping[str, Any],
    sections: Sequence[str],
    library: str = "transformers",
) -> str:
    """A README with the merge metadata of the Hugging Face hub.

    Args:
        title: the model's name.
        base: the base's hub id or folder.
        experts: the same of each expert, under its name.
        method: how they were merged.
        params: its parameters.
        sections: what else is known, in markdown.
        library: what loads the folder.
    """
    front = {
        "base_model": [base, *experts.values()],
        "base_model_relation": "merge",
        "library_name": library,
        "tags": ["merge", "remerge"],
    }
    given = [(name, value) for name, value in params.items() if value is not None]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n# {title}",
        f"A merge by `{method.name}` ({method.citation}), made with remerge: {method.summary}",
        markdown([("model", "source"), ("the base", base), *experts.items()]),
        markdown([("parameter", "value"), *given]) if given else "",
        *sections,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown(rows: Sequence[Sequence[Any]]) -> str:
    """A table, its first row the head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def coefficient_table(coefficients: Coefficients) -> str:
    """The learned coefficients, the experts side by side."""
    first = next(iter(coefficients.values()))
    layers = list(first) if isinstance(first, Mapping) else ["all layers"]
    rows = [
        (layer, *(f"{c[layer] if isinstance(c, Mapping) else c:.4f}" for c in coefficients.values()))
        for layer in layers
    ]
    return markdown([("coefficient", *coefficients), *rows])


def mergekit_recipe(
    method: Method,
    settings: Mapping[str, Any],
    base: str,
    experts: Mapping[str, str],
    coefficients: Coefficients,
    dtype: str,
) -> dict[str, Any] | None:
    """The configuration with which mergekit 0.1.5 makes the same merge, or None if it has no such method.

    Its TIES is ours but for entries whose magnitudes tie where density cuts. Its DARE and DELLA draw other
    masks, its karcher is the mean of weights and not of their deltas, its breadcrumbs empty small tensors.

    Args:
        method: how the experts were merged.
        settings: all its parameters.
        base: the base's hub id or folder.
        experts: the same of each expert, in the order of the merge.
        coefficients: what was learned, empty for methods that learn nothing.
        dtype: in which the merge is stored.
    """
    names, scale = list(experts), settings.get("scale", 1.0)
    shared: dict[str, Any] = {}
    if method.name == "average":
        name, weights = "linear", normalised(settings["weights"], names, "weights")
    elif method.name == "multi_slerp":
        name, weights = "multislerp", normalised(settings["weights"], names, "weights")
    elif method.name == "task_arithmetic":
        name, weights = "task_arithmetic", per_expert(scale, names, "scale")
    elif method.name == "slerp":
        name, weights, shared = "slerp", [], {"t": settings["t"]}
        base = next(iter(experts.values()))
    elif (
        method.name == "ties"
        and settings["scope"] == "tensor"
        and settings["aggregate"] == "mean"
        and len(lam := set(per_expert(scale, names, "scale"))) == 1
    ):
        name, weights = "ties", [1.0] * len(names)
        shared = {"density": settings["density"], "lambda": lam.pop()}
    elif coefficients and settings.get("over", "none") in ("", "none"):
        name, weights = "task_arithmetic", [_by_layer(c) for c in coefficients.values()]
    else:
        return None
    given = [{"weight": weight} for weight in weights] or [{}] * len(names)
    recipe = {
        "merge_method": name,
        # The first expert is where slerp starts, the base where all else does but the mean, which has none.
        **({} if name == "linear" else {"base_model": base}),
        "models": [
            {"model": source, **({"parameters": own} if own else {})}
            for source, own in zip(experts.values(), given, strict=True)
        ],
        "parameters": shared,
        "dtype": "float32",
        "out_dtype": dtype,
    }
    return {key: value for key, value in recipe.items() if value}


def _by_layer(coefficient: float | Mapping[str, float]) -> Any:
    """A weight, or one for each layer: mergekit takes the first whose filter is part of a tensor's name."""
    if not isinstance(coefficient, Mapping):
        return coefficient
    blocks = [{"filter": f"{layer}.", "value": c} for layer, c in coefficient.items() if layer != "other"]
    return [*blocks, {"value": coefficient.get("other", 0.0)}]
