"""The mean test score over tasks in the largest merges, by method and benchmark."""

from collections.abc import Callable

from remerge.exhibits._rows import Row, best, differing, frame
from remerge.exhibits.general.tasks import tasks
from remerge.report.run import Run
from remerge.report.table import Column, Table


def averages(runs: list[Run], published: Callable[[Run, str], float]) -> Table:
    """One row per method, in the order of the benchmarks; ``published`` looks up a paper's number."""
    rows: dict[str, Row] = {}
    columns = [Column("method", "Method")]
    for run in runs:
        here = run.benchmark
        for record in tasks(run).frame.to_dict("records"):
            label = str(record["method"])
            row = rows.setdefault(label, {"variant": record["variant"], "method": label})
            row[here], row[f"{here}_paper"] = float(record["average"]), published(run, label)
        columns.append(Column(here, "ours", here, digits=1))
        if any(row[f"{here}_paper"] == row[f"{here}_paper"] for row in rows.values() if here in row):
            columns.append(Column(f"{here}_paper", "paper", here, digits=1))
    ordered = sorted(rows.values(), key=lambda row: row["variant"] == "multitask")
    bold = best(ordered, columns, [run.benchmark for run in runs])
    table, facts = frame(ordered, columns, "variant"), {"differing": differing(runs)}
    return Table(table, tuple(columns), bold, frozenset({2}), facts)
