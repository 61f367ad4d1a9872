"""How alike experts process inputs, full fine-tuning beside LoRA.

Linear CKA of what the experts of each benchmark add to the base's layers, ΔW x, and of Vᵀ x after KnOTS's
alignment, on the same inputs: mean over all pairs of experts and over the weights of a layer.
"""

from remerge.config import Config
from remerge.exhibits._lines import legend_above
from remerge.exhibits.slides.cka import KINDS, draw, kind
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("alignment",)


def applies(configs: list[Config]) -> bool:
    """Where a benchmark is of the slides."""
    return any(config.paper == "slides" for config in configs)


def build(runs: list[Run]) -> Figure:
    """A panel a benchmark."""
    mine = [run for run in runs if run.config.paper == "slides"]
    figure = Figure(max(2.7 * len(mine), 3.6), 2.9)
    panels = figure.subplots(1, len(mine), squeeze=False, sharey=True)[0]
    for axes, run in zip(panels, mine, strict=True):
        draw(axes, run.alignment, {what: KINDS[what] for what in ("updates", "aligned")})
        axes.set_title(f"{run.benchmark}\n{kind(run.alignment)}")
    panels[0].set_ylabel("CKA")
    legend_above(figure, panels[0])
    return figure
