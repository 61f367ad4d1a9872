"""Divergence and accuracy.

Spearman correlation, sign flipped, between the divergence of expert i from the task's own expert on the
task's validation inputs (n = {n_inputs}) and the test accuracy of expert i on the task, over the {tasks}
experts i, the task's own among them.
"""

from remerge.analysis.correlation import spearman
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, counts, frame, mean
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "divergences")
KINDS = {"kl": "KL", "js": "JS"}


def build(run: Run) -> Table:
    """For each task t, over experts i: D(θ_t, θ_i | X_t), which falls as the accuracy of i rises."""
    paper = Published(__file__, run.benchmark)
    divergences = {"kl": run.divergence("kl"), "js": run.divergence("js")}
    rows: list[Row] = []
    for task in run.tasks:
        accuracy = run.accuracy.loc[run.tasks, task].tolist()
        row: Row = {"task": task, "label": task_label(task)}
        for kind, head in KINDS.items():
            row[kind] = -spearman(divergences[kind][task].tolist(), accuracy)
            row[f"{kind}_paper"] = paper.value(row["label"], head)
        rows.append(row)
    average: Row = {"task": "average", "label": "Average"}
    columns = [Column("label", "Task")]
    for kind, head in KINDS.items():
        average[kind] = mean(row[kind] for row in rows)
        average[f"{kind}_paper"] = paper.value("Avg.", head)
        columns += beside(Column(kind, head, digits=3), f"{kind}_paper", paper)
    facts = {"n_inputs": counts(run.divergence_inputs())}
    table = frame([*rows, average], columns, "task")
    return Table(table, tuple(columns), rules=frozenset({len(rows)}), facts=facts)
