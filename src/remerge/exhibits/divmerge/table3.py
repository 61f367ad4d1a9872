"""Merges of {smallest} experts.

ANP over {all_smallest} of {smallest} experts: mean ± half-width of the 95% Student t interval
over merges. The unmerged models are scored on the same tasks. Bold: the best merge. {beside}
"""

from dataclasses import replace

from remerge.exhibits._published import Published
from remerge.exhibits.divmerge._rows import HEADS, ROWS
from remerge.exhibits.general.pairs import pairs
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
BESIDE = f"{HEADS}On pairs, the paper's own Tables 3, 6 and 7 disagree."


def build(run: Run) -> Table:
    """One row per method."""
    paper = Published(__file__, run.benchmark)
    return replace(pairs(run, paper, ROWS), facts={"beside": BESIDE if paper else ""})
