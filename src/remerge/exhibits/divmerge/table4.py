"""Spread over merges of one size.

Half-width of the 95% Student t interval over merges of the mean ANP, for merges of two and, if there are any,
of three experts: the ± of Table 3, and the bars of Figure 2. A stable method has a small half-width.
"""

from remerge.analysis.significance import mean_interval
from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import beside, frame, method_rows, reference_rules
from remerge.exhibits.divmerge._rows import ROWS
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether there are several merges of two or of three."""
    return any(len(config.subsets(size)) > 1 for size in config.sizes if size in (2, 3))


def build(run: Run) -> Table:
    """One row per method, one column per size."""
    paper = Published(__file__, run.benchmark)
    sizes = [size for size in run.sizes if size in (2, 3) and len(run.config.subsets(size)) > 1]
    rows = method_rows(run, ROWS)
    columns = [Column("method", "Method")]
    for size in map(str, sizes):
        for row in rows:
            row[size] = mean_interval(run.anp_of(row["variant"], int(size)))[1]
            row[f"{size}_paper"] = paper.value(row["paper_row"], size)
        columns += beside(Column(size, f"{size} tasks", digits=2), f"{size}_paper", paper)
    return Table(frame(rows, columns, "variant"), tuple(columns), rules=reference_rules(rows))
