"""Merges of {smallest} experts.

ANP over {all_smallest} of {smallest} experts: mean ± half-width of the 95% Student t interval
over merges. The unmerged models are scored on the same tasks. Bold: the best merge.
"""

from remerge.exhibits._published import Published
from remerge.exhibits.divmerge._rows import ROWS
from remerge.exhibits.general.pairs import pairs
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")


def build(run: Run) -> Table:
    """One row per method."""
    return pairs(run, Published(__file__, run.benchmark), ROWS)
