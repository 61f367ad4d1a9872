"""Tasks.

The data used here. {beside}
"""

from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, frame
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.table import MISSING, Column, Table

READS = ("scores",)
BESIDE = (
    "Beside them, the paper's description of each task. The paper does not state the numbers of test "
    "examples: those beside ours are the numbers that the accuracies in its Table 5 are multiples of. Of its "
    "prompts, it prints only CoLA's (Table 1)."
)
"""What is said where the paper has the task."""


def build(run: Run) -> Table:
    """One row per task."""
    paper = Published(__file__, run.benchmark)
    scores = run.scores("base")
    rows: list[Row] = []
    for task, asked in run.config.tasks.items():
        label = task_label(task)
        printed = paper.text(label, "Prompt")
        row: Row = {"task": task, "label": label, "description": paper.text(label, "Description") or MISSING}
        row["source"] = " ".join(filter(None, (asked.source, asked.subset, f"({asked.splits.test})")))
        row["n"], row["n_paper"] = scores[task].n, float(paper.text(label, "Test") or "nan")
        row["metric"] = scores[task].metric
        row["prompt"] = (
            "our choice" if not printed else "the paper's" if printed == asked.prompt else "another"
        )
        rows.append(row)
    columns = [Column("label", "Task")]
    columns += [Column("description", "Description")] if paper else []
    columns += [Column("source", "Source (test split)"), Column("metric", "Metric")]
    columns += beside(Column("n", "Test examples", digits=0), "n_paper", paper)
    columns += [Column("prompt", "Prompt")] if paper else []
    return Table(frame(rows, columns, "task"), tuple(columns), facts={"beside": BESIDE if paper else ""})
