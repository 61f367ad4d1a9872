"""Divergence and score.

Correlation, with its sign flipped, between the divergence of expert i from the task's own expert on the
task's validation inputs (n = {n_inputs}) and the test score of expert i on the task: Spearman's ρ and
Pearson's r. Above: for each task over the {tasks} experts i, including its own, as in Section 5.1. Below: for
each expert over the {tasks} tasks, the rows of Figure 5 and Table 5, as in Appendix B.2. The paper calls its
numbers Spearman's. Over seven models Spearman's ρ takes few values (without ties, the multiples of 1/28), and
the accuracies of Table 5 allow none of the fourteen published numbers, whatever seven different divergences
they are correlated with. {heads}
"""

from collections.abc import Callable, Sequence

import pandas as pd

from remerge.analysis.correlation import pearson, spearman
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, counts, frame, mean
from remerge.exhibits.divmerge._rows import HEADS
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "divergences")
KINDS = {"kl": "KL", "js": "JS"}
CORRELATIONS: dict[str, tuple[str, Callable[[Sequence[float], Sequence[float]], float]]] = {
    "": ("ρ", spearman),
    "_pearson": ("r", pearson),
}


def build(run: Run) -> Table:
    """D(θ_t, θ_i | X_t), which falls as the score of i on t rises: over i for each t, and over t."""
    paper = Published(__file__, run.benchmark)
    accuracy = run.accuracy.loc[run.tasks, run.tasks]
    divergences = {"kl": run.divergence("kl"), "js": run.divergence("js")}
    rows = _correlated("experts", accuracy, divergences, paper)
    turned = {kind: frame.T for kind, frame in divergences.items()}
    rows += _correlated("tasks", accuracy.T, turned, paper)
    columns = [Column("label", "Over")]
    for kind, head in KINDS.items():
        columns += [Column(f"{kind}{end}", name, head, digits=3) for end, (name, _) in CORRELATIONS.items()]
        columns += [Column(f"{kind}_paper", "paper", head, digits=3)] if paper else []
    facts = {
        "n_inputs": counts(found.n for found in run.divergences(run.tasks[0]).values()),
        "heads": HEADS if paper else "",
    }
    table = frame(rows, columns, "over", "task")
    half = len(rows) // 2
    rules = frozenset({half - 1, half, len(rows) - 1})
    return Table(table, tuple(columns), rules=rules, facts=facts)


def _correlated(
    over: str, accuracy: pd.DataFrame, divergences: dict[str, pd.DataFrame], paper: Published
) -> list[Row]:
    """A row for each column of the frames, over their rows, and their mean."""
    rows: list[Row] = []
    for task in accuracy:
        row: Row = {"over": over, "task": task, "label": f"{over}, {'on' if over == 'experts' else 'of'} "}
        row["label"] += task_label(str(task))
        for kind, head in KINDS.items():
            for end, (_, correlation) in CORRELATIONS.items():
                row[f"{kind}{end}"] = -correlation(divergences[kind][task].tolist(), accuracy[task].tolist())
            row[f"{kind}_paper"] = paper.value(task_label(str(task)), head)
        rows.append(row)
    average: Row = {"over": over, "task": "average", "label": "Average"}
    for kind, head in KINDS.items():
        for end in CORRELATIONS:
            average[f"{kind}{end}"] = mean(row[f"{kind}{end}"] for row in rows)
        average[f"{kind}_paper"] = paper.value("Avg.", head)
    return [*rows, average]
