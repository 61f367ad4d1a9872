"""The first lines of the page: the best method, how certain its lead is, its cost, and who keeps nothing."""

from io import BytesIO
from math import comb
from typing import Any

import pandas as pd

from remerge import exhibits
from remerge.analysis.significance import LEVEL
from remerge.files import read_bytes
from remerge.report.labels import MODELS, duration
from remerge.report.make import place
from remerge.report.run import Run
from remerge.report.table import number

BEST, COMPARED = "best", "comparisons"
"""The tables from which the first lines are written."""

SPOKEN = {"base": "the unmerged base", "expert": "the best single expert", "multitask": "the multitask model"}
"""The unmerged models, in a sentence."""


def outcome(run: Run) -> dict[str, Any]:
    """The first lines: the best method, its lead with certainty, its cost, and who keeps nothing."""
    size = run.sizes[-1]
    base = run.mean_anp("base", size)
    ends = {variant.label: run.mean_anp(variant.name, size) for variant in run.variants}
    return {
        "size": size,
        "lost": [label for label, value in ends.items() if value <= base],
        "best": _best(run) if BEST in exhibits.of(run.config) else None,
    }


def _best(run: Run) -> dict[str, Any]:
    """The best method, and its lead over each other row of its table, which its rule wrote."""
    rows = _rows(run, BEST)
    name = rows[0]["variant"]
    mine = run.merged[run.merged["variant"] == name]
    memory = [merge.memory for size in run.sizes for merge in run.merges(name, size) if merge.memory]
    tuned = run.config.chosen_for(run.config.variant(name))
    others = [
        {
            "label": SPOKEN.get(row["variant"], row["method"]),
            "merge": row["variant"] not in MODELS,
            "lead": _signed(row["lead"]),
            "low": _signed(row["low"]),
            "high": _signed(row["high"]),
        }
        for row in rows[1:]
    ]
    corrected = None
    if others and others[0]["merge"] and COMPARED in exhibits.of(run.config):
        holm = {row["variant"]: row["holm"] for row in _rows(run, COMPARED)}
        p = holm[rows[1]["variant"]]
        corrected = {"p": _p(p), "apart": p < LEVEL, "pairs": comb(len(holm), 2), "alone": rows[1]["low"] > 0}
    return {
        "label": rows[0]["method"],
        "of": len(run.config.makers(*run.sizes)),
        "anp": number(rows[0]["anp"], 1),
        "others": others,
        "corrected": corrected,
        "loaded": name in run.config.external,
        "merge": duration(mine["merge"].mean()),
        "fit": duration(mine["fit"].mean()) if mine["fit"].any() else None,
        "tuned": tuned,
        "memory": f"{max(memory) / 2**30:.1f} GiB" if memory else None,
    }


def _rows(run: Run, name: str) -> list[dict[str, Any]]:
    """A table as its rule wrote it."""
    file = place(run, exhibits.of(run.config)[name], "csv")
    return [{**row} for _, row in pd.read_csv(BytesIO(read_bytes(file))).iterrows()]


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value, 1)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {number(value, 3)}"
