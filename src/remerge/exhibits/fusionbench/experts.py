"""Every expert on every task.

Test {metrics} in % of each expert (rows) on every task (columns), n = {n_test}. {strict} Bold: an expert on
its own task. FusionBench compares decoded texts where answers are words.
"""

from remerge.exhibits._published import Published
from remerge.exhibits.general.experts import experts
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores",)


def build(run: Run) -> Table:
    """One row per expert, one column per task."""
    return experts(run, Published(__file__, run.benchmark))
