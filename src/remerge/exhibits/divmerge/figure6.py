"""Cosines of task vectors.

Cosine similarity of the experts' task vectors, with all merged weights as one vector: <τ_s, τ_t> / (‖τ_s‖
‖τ_t‖). Off the diagonal it ranges from {least} to {most}. According to the paper, task arithmetic merges
experts well if it is near zero. The paper's figure is an image, so its values are not shown beside ours.
"""

import numpy as np

from remerge.exhibits._heat import heat
from remerge.report.figure import Figure
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.table import number

READS = ("weights",)


def build(run: Run) -> Figure:
    """A square of cosines."""
    figure = Figure(3.4, 3.1)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.21, right=0.97, top=0.93, bottom=0.19)
    cosines = np.array(run.weights.cosines)
    heat(axes, cosines, [task_label(task) for task in run.tasks], r"$\cos(\tau_s, \tau_t)$")
    axes.invert_yaxis()
    apart = cosines[~np.eye(len(cosines), dtype=bool)]
    figure.facts = {"least": number(apart.min(), 2), "most": number(apart.max(), 2)}
    return figure
