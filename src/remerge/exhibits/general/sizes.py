"""ANP by number of tasks.

Mean ANP over all merges of {smallest} to {largest} experts (n = {n_by_size}), and the mean of these means.
Bold: the best merge in a column.
"""

from collections.abc import Mapping
from statistics import fmean

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import beside, best, frame, method_rows, reference_rules
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether there are several sizes; DivMerge numbers the table."""
    return config.paper != "divmerge" and len(config.sizes) > 1


def build(run: Run) -> Table:
    """One row per method, one column per size."""
    return sizes(run)


def sizes(run: Run, paper: Published | None = None, names: Mapping[str, str] | None = None) -> Table:
    """ANP by method and size: the paper's table transposed, so that the unmerged have rows of their own.

    The average is that of the sizes' means, as in the paper.
    """
    heads = [str(size) for size in run.sizes]
    rows = method_rows(run, names or {})
    for row in rows:
        row |= {size: run.mean_anp(row["variant"], int(size)) for size in heads}
        row["average"] = fmean(row[size] for size in heads)
        if paper:
            row |= {f"{size}_paper": paper.value(size, row["paper_row"]) for size in heads}
            row["average_paper"] = paper.value("Average", row["paper_row"])
    columns = [Column("method", "Method")]
    for size in heads:
        columns += beside(Column(size, f"{size} tasks", digits=2), f"{size}_paper", paper)
    columns += beside(Column("average", "Average", digits=2), "average_paper", paper)
    bold = best(rows, columns, [*heads, "average"])
    return Table(frame(rows, columns, "variant"), tuple(columns), bold, reference_rules(rows))
