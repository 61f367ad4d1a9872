"""Models and kinds of fine-tuning, by the source of λ.

Mean test score in % over all tasks, under the merge of all of them, for each base, beside the slides'
numbers. λ is 1, the best value on validation splits, or learned. As on the slides, task arithmetic is called
by how its experts were trained; the other methods' names include it, unless in the standard way. Bold: the
best merge in a column. {differing}
"""

from pathlib import Path
from typing import Any

from remerge.config import UNMERGED, Config
from remerge.exhibits._rows import Row, best, differing, frame
from remerge.exhibits.slides.table import entries
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("base", "scores", "merges")


def applies(configs: list[Config]) -> bool:
    """Whether a benchmark is of the slides."""
    return any(config.paper == "slides" and len(config.tasks) in config.sizes for config in configs)


def build(runs: list[Run]) -> Table:
    """One row per method and source of its λ, two columns per base."""
    mine = [run for run in runs if applies([run.config])]
    rows: dict[tuple[str, str], Row] = {}
    columns = [Column("method", "Method"), Column("scale", "Coefficient λ")]
    bases: dict[str, Any] = {}
    for run in mine:
        found = {(e["method"], e["scale"].partition(":")[0]): e for e in entries(run)}
        base = Path(run.config.base.source).name
        # Another run of the same methods would hide the first in its column, other tests do not belong there.
        hidden = any(base in rows.get(key, {}) for key, entry in found.items() if entry["variant"] != "base")
        if hidden or bases.get(base, tested(run)) != tested(run):
            base = f"{base}, {run.benchmark}"
        bases[base] = tested(run)
        for (method, scale), entry in found.items():
            named = {"variant": entry["variant"], "method": method, "scale": scale}
            row = rows.setdefault((method, scale), named)
            row.setdefault(base, entry["ours"])
            if entry["paper"] == entry["paper"]:
                row[f"{base}_paper"] = entry["paper"]
    for base in bases:
        columns.append(Column(base, "ours", base, digits=1))
        if any(f"{base}_paper" in row for row in rows.values()):
            columns.append(Column(f"{base}_paper", "paper", base, digits=1))
    ordered = sorted(rows.values(), key=lambda row: row["variant"] not in UNMERGED)
    unmerged = len([row for row in ordered if row["variant"] in UNMERGED])
    bold = best(ordered, columns, bases)
    facts = {"differing": differing(mine)}
    return Table(frame(ordered, columns), tuple(columns), bold, frozenset({unmerged}), facts)


def tested(run: Run) -> tuple[str, dict[str, int]]:
    """The base, and the number of test examples of each task, which runs in one column share."""
    return run.model("base").content, {task: run.scores("base")[task].n for task in run.tasks}
