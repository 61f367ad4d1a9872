"""ANP by number of tasks, generation.

Mean ANP over all merges of {smallest} to {largest} experts (n = {n_by_size}), and the mean of these means.
The paper's table is transposed. Bold: the best merge in a column. On pairs, the paper's own Tables 3 and 7
disagree; eight of the nine numbers in Table 7 are 100 (1 − k/384), as if exact matches had judged one pair.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.divmerge._rows import ROWS
from remerge.exhibits.general.sizes import sizes
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether there are several sizes, and some answers are free text."""
    return len(config.sizes) > 1 and not all(task.classifies for task in config.tasks.values())


def build(run: Run) -> Table:
    """One row per method, one column per size."""
    return sizes(run, Published(__file__, run.benchmark), ROWS)
