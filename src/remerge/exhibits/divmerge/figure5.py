"""Divergences.

Divergence, in nats, of every expert (rows) from a task's own expert, on that task's validation inputs
(columns): KL(own ‖ other) on the left, JS on the right. Each panel has its own scale.
"""

from remerge.exhibits._heat import heat
from remerge.report.figure import Figure
from remerge.report.labels import task_label
from remerge.report.run import Run

READS = ("divergences",)


def build(run: Run) -> Figure:
    """Two panels: KL and JS."""
    figure = Figure(5.4, 2.9)
    left, right = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.135, right=0.99, top=0.9, bottom=0.2, wspace=0.06)
    names = [task_label(task) for task in run.tasks]
    heat(left, run.divergence("kl").to_numpy(), names, "KL (nats)")
    heat(right, run.divergence("js").to_numpy(), names, "JS (nats)")
    for axes in (left, right):
        axes.set_xlabel("on the inputs of")
    left.set_ylabel("expert of")
    left.invert_yaxis()  # shared: the first expert on top in both
    return figure
