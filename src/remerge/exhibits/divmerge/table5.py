"""Every expert on every task.

Test {metrics} in %, strict (the greedy answer equals the gold answer), of each expert (rows) on every task
(columns), n = {n_test}. Bold: an expert on its own task.
"""

from remerge.exhibits._published import Published
from remerge.exhibits.general.experts import experts
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores",)


def build(run: Run) -> Table:
    """A row an expert, a column a task."""
    return experts(run, Published(__file__, run.benchmark))
