"""Every expert on every task.

Test {metrics} in % of each expert (rows) on every task (columns), n = {n_test}. {strict} Bold: an expert on
its own task.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, counts, frame
from remerge.report.labels import METRICS, MODELS, task_label
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores",)
STRICT = "Accuracy is strict: the whole greedy answer equals the gold answer."
"""Of models that answer in words."""


def applies(config: Config) -> bool:
    """DivMerge and FusionBench have published numbers of it."""
    return config.paper not in ("divmerge", "fusionbench")


def build(run: Run) -> Table:
    """One row per expert, one column per task."""
    return experts(run)


def experts(run: Run, paper: Published | None = None) -> Table:
    """Each expert on every task's test split, with the base and multitask."""
    rows: list[Row] = []
    for model in [*run.tasks, *run.references]:
        row: Row = {"model": model, "label": MODELS.get(model, task_label(model))}
        for task in run.tasks:
            row[task] = 100 * float(run.accuracy[task][model])
            if paper:
                row[f"{task}_paper"] = paper.value(row["label"], task_label(task))
        rows.append(row)
    columns = [Column("label", "Expert of")]
    for task in run.tasks:
        columns += beside(Column(task, task_label(task), digits=2), f"{task}_paper", paper)
    scores = run.scores("base")
    metrics = dict.fromkeys(scores[task].metric for task in run.tasks)
    facts = {
        "metrics": " or ".join(METRICS[metric] for metric in metrics),
        "n_test": counts(scores[task].n for task in run.tasks),
        "strict": STRICT if run.config.base.speaks and "accuracy" in metrics else "",
    }
    bold = frozenset((place, task) for place, task in enumerate(run.tasks))
    return Table(frame(rows, columns, "model"), tuple(columns), bold, frozenset({len(run.tasks)}), facts)
