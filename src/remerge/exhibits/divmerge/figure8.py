"""Coefficients of pairs, classification.

Each point is a merge of two tasks under DivMerge JS with one coefficient per task: λ₁ of the task named first
against λ₂ of the second. Points in one row or column share a coefficient. Cross: the start of the training.
"""

from remerge.config import Config
from remerge.exhibits.divmerge._plane import plane
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("merges",)


def applies(config: Config) -> bool:
    """Whether the paper's method learns one coefficient per task, of pairs with right and wrong answers."""
    from remerge.exhibits.divmerge._method import own

    classifies = all(task.classifies for task in config.tasks.values())
    return own(config.makers(2), "task") is not None and classifies


def build(run: Run) -> Figure:
    """One point per pair."""
    return plane(run)
