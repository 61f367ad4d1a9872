"""The model card that goes with the weights of a merge."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from remerge.files import read_settings
from remerge.methods import Method

HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""An id on the hub: somebody's name and the model's."""

Coefficients = Mapping[str, float | Mapping[str, float]]
"""Learned coefficients: for each expert a number, or one for each layer."""


def model_card(
    title: str,
    base: str,
    experts: Mapping[str, str],
    method: Method,
    params: Mapping[str, Any],
    sections: Sequence[str],
    library: str = "transformers",
    scores: Sequence[EvalResult] = (),
) -> str:
    """A README with the merge metadata of the Hugging Face hub; it names no folder of this machine.

    Args:
        title: the model's name.
        base: the base's hub id or folder.
        experts: the same of each expert, under its name.
        method: the method that merged them.
        params: its parameters.
        sections: what else is known, in markdown.
        library: what loads the folder.
        scores: the measured scores.
    """
    found = [loaded_from(base), *(source for source in experts.values() if not Path(source).is_dir())]
    ids = [source.partition("@")[0] for source in found if source]
    sources = [("the base", shown_base(base)), *((name, shown(source)) for name, source in experts.items())]
    known: dict[str, Any] = {"base_model": ids, "base_model_relation": "merge"} if ids else {}
    if scores:
        known |= {"model_name": title, "eval_results": [*scores]}
    data = ModelCardData(library_name=library, tags=["merge", "remerge"], **known)
    given = [(name, value) for name, value in params.items() if value is not None]
    parts = [
        f"---\n{data.to_yaml()}\n---\n\n# {title}",
        f"A merge by `{method.name}` ({method.citation}), made with remerge: {method.summary}",
        markdown([("model", "source"), *sources]),
        markdown([("parameter", "value"), *given]) if given else "",
        *sections,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def loaded_from(base: str) -> str | None:
    """A base's id on the hub; for a local folder, the id that it says it was loaded from, or None."""
    folder = Path(base)
    if not folder.is_dir():
        return base
    for file in ("config.json", "adapter_config.json"):
        name = read_settings(folder / file).get("_name_or_path") if (folder / file).is_file() else None
        if name and HUB.fullmatch(name) and not Path(name).is_dir():
            return str(name)
    return None


def shown_base(base: str) -> str:
    """A base's name for other readers: its hub id, also that of a folder, or its folder's name."""
    return loaded_from(base) or shown(base)


def shown(source: str) -> str:
    """An expert's name for other readers: its hub id, or its folder's name.

    A folder's own id is not known: what it was loaded from is the model from which it was trained.
    """
    folder = Path(source)
    return folder.name if folder.is_dir() else source


def markdown(rows: Sequence[Sequence[Any]]) -> str:
    """A table whose first row is the head."""
    cells = [[" ".join(str(cell).split()).replace("|", r"\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
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
