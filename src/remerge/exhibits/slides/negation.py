"""Forgetting by negation.

Test scores of θ₀ − λ τ, as a share of the base's own score, against λ. Each panel shows one task whose vector
τ is subtracted. Line with markers: the task itself (lower is better); grey: the mean and the range of its
controls; dashed: {kept}% of the base's score. {choice}
"""

from remerge.config import Config
from remerge.exhibits.general.negation import negation
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether vectors are subtracted at some scale."""
    from remerge.exhibits._scaled import scaled

    return bool(scaled(config, "negation"))


def build(run: Run) -> Figure:
    """One panel per task to forget."""
    return negation(run)
