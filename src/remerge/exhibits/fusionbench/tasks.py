"""Every task under the largest merge.

Test score in % on each task, under {what}, beside the unmerged models and each task's own expert. Bold: the
best merge in a column. For Flan-T5's adapters, FusionBench prints 90.5 for RTE under its simple average; the
average of that row says 80.5.
"""

from remerge.exhibits._published import Published
from remerge.exhibits.general.tasks import tasks
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
ROWS = {
    MODELS["base"]: "Pre-trained",
    MODELS["multitask"]: "Traditional MTL",
    "Model averaging": "Simple Averaging",
    "Fisher": "Fisher Merging",
    "RegMean": "RegMean",
    "Task arithmetic (scale 0.3)": "Task Arithmetic",
    "TIES (aggregate sum, scale 0.3)": "Ties-Merging",
    "AdaMerging (TL)": "Task-wise AdaMerging",
    "AdaMerging (LL)": "Layer-wise AdaMerging",
    "WUDI-Merging": "WUDI-Merging",
}
"""FusionBench's names for the rows."""


def build(run: Run) -> Table:
    """One row per method, one column per task."""
    return tasks(run, Published(__file__, run.benchmark), ROWS)
