"""Every task under the largest merge.

Test score in % on each task, under {what}, beside the unmerged models and each task's own expert. Bold: the
best merge in a column. For adapters, FusionBench prints 90.5 for RTE under its simple average; the average of
that row says 80.5.
"""

from remerge.exhibits._published import Published
from remerge.exhibits.general.tasks import tasks
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
ROWS = {
    "Unmerged base": "Pre-trained",
    "Model averaging": "Simple Average",
    "Task arithmetic (scale 0.3)": "Task Arithmetic",
    "TIES (aggregate sum, scale 0.3)": "Ties-Merging",
}


def build(run: Run) -> Table:
    """One row per method, one column per task."""
    return tasks(run, Published(__file__, run.benchmark), ROWS)
