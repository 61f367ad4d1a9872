"""Coefficients of pairs, generation.

Each merge of two tasks as a point: under DivMerge JS with one coefficient a task, λ₁ of the task named first
and λ₂ of the second. Points in a row or a column share a coefficient. Cross: where the training starts.
"""

from remerge.config import Config
from remerge.exhibits.divmerge._plane import plane
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("merges",)


def applies(config: Config) -> bool:
    """Where the paper's method learns one coefficient a task, of pairs with free text."""
    from remerge.exhibits.divmerge._method import own

    free = any(task.metric != "accuracy" for task in config.tasks.values())
    return own(config.merge.variants, "task") is not None and 2 in config.sizes and free


def build(run: Run) -> Figure:
    """A point a pair."""
    return plane(run)
