"""Every task under the largest merge.

Test score in % on each task, under {what}, beside the unmerged models and each task's own expert. Bold: the
best merge in a column.
"""

from collections.abc import Mapping
from statistics import fmean

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, best, frame, mean, method_rows, reference_rules
from remerge.report.labels import MODELS, task_label
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """DRM and FusionBench have published numbers of it."""
    return config.paper not in ("drm", "fusionbench")


def build(run: Run) -> Table:
    """One row per method, one column per task."""
    return tasks(run)


def tasks(run: Run, paper: Published | None = None, names: Mapping[str, str] | None = None) -> Table:
    """Scores by method and task; if no merge includes all tasks, means over those that include a task."""
    size = run.sizes[-1]
    scored = run.merge_scores(size)
    base, *others = method_rows(run, names or {})
    experts: Row = {"variant": "experts", "method": MODELS["experts"], "paper_row": "Finetuned"}
    rows = [base, experts, *others]
    for row in rows:
        for task in run.tasks:
            if row["variant"] in run.references:
                row[task] = 100 * float(run.accuracy[task][row["variant"]])
            elif row["variant"] == "experts":
                row[task] = 100 * run.own[task].value
            else:
                row[task] = 100 * mean(scored[row["variant"]][task])
            if paper:
                row[f"{task}_paper"] = paper.value(row["paper_row"], paper.column(task_label(task)))
        row["average"] = fmean(row[task] for task in run.tasks)  # NaN if no merge includes one of them
        row["average_paper"] = paper.value(row["paper_row"], "Average") if paper else None
    columns = [Column("method", "Method")]
    for task in run.tasks:
        columns += beside(Column(task, task_label(task), digits=1), f"{task}_paper", paper)
    columns += beside(Column("average", "Average", digits=1), "average_paper", paper)
    whole = size == len(run.tasks)
    what = "the merge of all tasks" if whole else f"the merges of {size} tasks that include it"
    bold = best(rows, columns, [*run.tasks, "average"])
    table = frame(rows, columns, "variant")
    return Table(table, tuple(columns), bold, reference_rules(rows), {"what": what})
