"""Tasks.

What each task is in the paper's words, and what stands for it here. Of test examples the paper gives no
number: those beside ours are the ones of which the accuracies in its Table 5 are multiples. Of prompts it
prints CoLA's alone (Table 1).
"""

from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, beside, frame
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.table import MISSING, Column, Table

READS = ("scores",)


def build(run: Run) -> Table:
    """A row a task."""
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
    return Table(frame(rows, columns, "task"), tuple(columns))
