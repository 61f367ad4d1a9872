"""Every input among the labels of all tasks.

Accuracy in % under the merge of all {largest} tasks when the model chooses among the labels of all tasks:
{labels} labels, where those of equal text count as one (the joint benchmark of KnOTS, Stoica et al., 2025).
The columns show each task, their mean, and all inputs together; beside them is the mean when the model
chooses among a task's own labels only. Bold: the best merge in a column.
"""

from collections.abc import Mapping

from remerge.config import Config
from remerge.exhibits._rows import Row, best, frame, mean, method_rows, reference_rules
from remerge.records import Score
from remerge.report.labels import MODELS, task_label
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether labels of several tasks can be compared, and all tasks are merged."""
    return config.base.fixed_heads and len(config.tasks) in config.sizes


def build(run: Run) -> Table:
    """One row per method, one column per task."""
    size = len(run.tasks)
    base, *others = method_rows(run, {})
    experts: Row = {"variant": "experts", "method": MODELS["experts"]}
    rows = [base, experts, *others]
    keys = ["own", "mean", "all", *run.tasks]
    for row in rows:
        if row["variant"] == "experts":
            scored = [run.own]
        elif row["variant"] in run.references:
            scored = [run.scores(row["variant"])]
        else:
            scored = [merge.scores for merge in run.merges(row["variant"], size)]
        of_seeds = [_row(scores) for scores in scored]
        row |= {key: mean(one[key] for one in of_seeds) for key in keys}
    columns = [
        Column("method", "Method"),
        Column("own", "mean", "own labels", digits=1),
        Column("mean", "mean", "labels of all tasks", digits=1),
        Column("all", "all inputs", "labels of all tasks", digits=1),
        *(Column(task, task_label(task), "labels of all tasks", digits=1) for task in run.tasks),
    ]
    labels = {answer for task in run.tasks for answer in run.config.task(task).answers}
    table = frame(rows, columns, "variant")
    return Table(
        table, tuple(columns), best(rows, columns, keys), reference_rules(rows), {"labels": len(labels)}
    )


def _row(scores: Mapping[str, Score]) -> dict[str, float]:
    """One model's accuracies in %; NaN where labels were not compared."""
    joint = {task: 100 * float("nan" if s.joint is None else s.joint) for task, s in scores.items()}
    inputs = sum(score.n for score in scores.values())
    return {
        **joint,
        "own": mean(100 * score.value for score in scores.values()),
        "mean": mean(joint.values()),
        "all": sum(joint[task] * score.n for task, score in scores.items()) / inputs,
    }
