"""Ablation of a part of DRM: the merge of all tasks with and without that part."""

from collections.abc import Mapping

from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, best, frame
from remerge.exhibits.general.tasks import tasks
from remerge.report.labels import MODELS, task_label
from remerge.report.run import Run
from remerge.report.table import Column, Table


def ablation(run: Run, paper: Published, rows: Mapping[str, tuple[str, str]]) -> Table:
    """One row for the base and each variant, with its name in print and in the paper; one column per task.

    The paper reports only the averages.
    """
    every = tasks(run)
    scores = {str(record["variant"]): record for record in every.frame.to_dict("records")}
    model = next(iter(paper.columns), None)
    found: list[Row] = []
    for variant, (label, in_paper) in {"base": (MODELS["base"], ""), **rows}.items():
        row: Row = {str(key): value for key, value in scores[variant].items()}
        found.append(row | {"method": label, "average_paper": paper.value(in_paper, model)})
    columns = [Column("method", "Method")]
    columns += [Column(task, task_label(task), digits=1) for task in run.tasks]
    columns += beside(Column("average", "Average", digits=1), "average_paper", paper)
    bold = best(found, columns, [*run.tasks, "average"])
    return Table(frame(found, columns, "variant"), tuple(columns), bold, frozenset({1}), every.facts)
