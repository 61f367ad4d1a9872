"""Merges of {smallest} experts.

ANP over {all_smallest} of {smallest} experts: mean ± half-width of the 95% Student t interval
over merges. The unmerged models are scored on the same tasks. Bold: the best merge.
"""

from collections.abc import Mapping

from remerge.analysis.significance import mean_interval
from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import best, frame, method_rows, reference_rules
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether there are several merges of the smallest size; DivMerge numbers the table."""
    return config.paper != "divmerge" and min(config.sizes) < len(config.tasks)


def build(run: Run) -> Table:
    """One row per method."""
    return pairs(run)


def pairs(run: Run, paper: Published | None = None, names: Mapping[str, str] | None = None) -> Table:
    """The smallest merges by method; the paper's column is its only one for the benchmark."""
    size = run.sizes[0]
    in_paper = paper.columns[0] if paper and size == 2 else None
    rows = method_rows(run, names or {})
    for row in rows:
        values = run.anp_of(row["variant"], size)
        row["n"] = len(values)
        row["anp"], row["half_width"] = mean_interval(values)
        if paper:
            row["paper"] = paper.value(row["paper_row"], in_paper)
            row["paper_half_width"] = paper.half_width(row["paper_row"], in_paper)
    ours = Column("anp", "Mean ANP", digits=2, half_width="half_width")
    theirs = Column("paper", "Paper", digits=2, half_width="paper_half_width")
    columns = [Column("method", "Method"), ours, *([theirs] if in_paper else [])]
    table = frame(rows, columns, "variant", "n")
    return Table(table, tuple(columns), best(rows, columns, ["anp"]), reference_rules(rows))
