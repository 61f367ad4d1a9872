"""Every task under the largest merge.

Test score in % on each task, by {what}, beside the unmerged models and each task's own expert. Tuned:
parameters chosen on validation scores, the paper's rows with a validation set. Bold: the best merge of a
column. The paper's table is of Llama-3.1-8B with LoRA, this one of {base}; its averages are in the paper's
Table 2.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._rows import ROWS
from remerge.exhibits.general.tasks import tasks
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Of Llama-3.1-8B with LoRA, and the miniature of its kind."""
    return config.base.source.endswith(("Llama-3.1-8B", "miniature-llama"))


def build(run: Run) -> Table:
    """A row a method, a column a task."""
    return tasks(run, Published(__file__, run.benchmark), ROWS)
