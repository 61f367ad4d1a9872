"""The tables of the DRM paper."""

from statistics import fmean

from remerge.report.labels import METHODS, task_label
from remerge.report.records import Records
from remerge.report.rows import Row, beside, best, frame, mean, method_rows, reference_rules
from remerge.report.table import Column, Table

TABLES = tuple(f"drm_table{number}" for number in range(10, 16))
"""The paper's tables of all tasks' scores, one for each of its models."""


def drm_table10(records: Records) -> Table:
    """Every task's score under the largest merges (DRM, Tables 10 to 15; their averages: Tables 1 and 2).

    Of merges that do not hold all tasks, the mean over those that hold the task.
    """
    paper = records.published.first(*TABLES)
    size = records.sizes[-1]
    scored = records.merge_scores(size)
    base, *others = method_rows(records, "drm")
    experts: Row = {"variant": "experts", "method": METHODS["experts"], "paper_row": "Finetuned"}
    rows = [base, experts, *others]
    for row in rows:
        for task in records.tasks:
            if row["variant"] in records.references:
                row[task] = 100 * float(records.accuracy[task][row["variant"]])
            elif row["variant"] == "experts":
                row[task] = 100 * float(records.accuracy[task][task])
            else:
                row[task] = 100 * fmean(scored[row["variant"]][task])
            column = records.published.column(paper, task_label(task))
            row[f"{task}_paper"] = records.published.value(paper, row["paper_row"], column)
        row["average"] = mean(row[task] for task in records.tasks)
        row["average_paper"] = records.published.value(paper, row["paper_row"], "Average")
    columns = [Column("method", "Method")]
    for task in records.tasks:
        columns += beside(Column(task, task_label(task), digits=1), f"{task}_paper", paper)
    columns += beside(Column("average", "Average", digits=1), "average_paper", paper)
    what = "the merge of all tasks" if size == len(records.tasks) else f"the merges of {size} that hold it"
    number = f"Table {paper.removeprefix('drm_table')}" if paper else "Tables 10 to 15"
    return Table(
        "drm_table10",
        "Every task under the largest merge",
        f"Test score in % on each task, by {what} (DRM, {number}; its averages are in Tables 1 and 2), "
        f"beside the unmerged models and each task's own expert. Bold: the best merge of a column.",
        frame(rows, columns, "variant"),
        tuple(columns),
        best(rows, [*records.tasks, "average"]),
        reference_rules(rows),
    )
