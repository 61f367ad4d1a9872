"""Every task under the largest merge.

Test score in % on each task, under {what}, beside the unmerged models and each task's own expert. Tuned:
parameters chosen on validation scores, as in the paper's rows with a validation set. Bold: the best merge in
a column. The paper's table is for DeBERTa-v3-Base; the base here is {base}; the paper gives the averages in
its Table 1.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._rows import ROWS
from remerge.exhibits.general.tasks import tasks
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether the base is DeBERTa-v3-Base, or the miniature of its kind."""
    return config.base.source.endswith(("deberta-v3-base", "miniature-deberta"))


def build(run: Run) -> Table:
    """One row per method, one column per task."""
    return tasks(run, Published(__file__, run.benchmark), ROWS)
