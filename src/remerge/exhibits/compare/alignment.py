"""How similarly experts process inputs, full fine-tuning and LoRA.

Linear CKA of what the experts of each benchmark add to the base's layers, ΔW x, and of Vᵀ x after KnOTS's
alignment, on the same inputs: the mean over all pairs of experts and over the weights of a layer.
"""

from math import ceil

from remerge.config import Config
from remerge.exhibits._lines import legend_above
from remerge.exhibits.slides.alignment import KINDS, draw, kind
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("alignment",)


def applies(configs: list[Config]) -> bool:
    """Whether a benchmark is of the slides."""
    return any(config.paper == "slides" for config in configs)


def build(runs: list[Run]) -> Figure:
    """One panel per benchmark."""
    mine = [run for run in runs if applies([run.config])]
    across = min(len(mine), 3)
    figure = Figure(max(2.7 * across, 3.6), 2.5 * ceil(len(mine) / 3) + 0.4)
    panels = figure.panels(len(mine), across, sharey=True)
    for axes, run in zip(panels.flat, mine, strict=False):
        draw(axes, run.alignment, {what: KINDS[what] for what in ("updates", "aligned")})
        axes.set_title(f"{run.benchmark}\n{kind(run.alignment)}")
    for axes in panels[:, 0]:
        axes.set_ylabel("CKA")
    legend_above(figure, panels[0, 0])
    return figure
