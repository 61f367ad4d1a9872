"""How similarly the experts process inputs, by depth.

Linear CKA (Kornblith et al., 2019) between {kind} on the same inputs, which are the base's own at each layer
({inputs} validation inputs per task): the mean over all pairs of the {tasks} experts and over the weights of
a layer; weights outside any layer are on the left (o). W x are the outputs, ΔW x what an expert adds to them,
and Vᵀ x, with ΔW = U Σ Vᵀ in the space shared by all experts, what KnOTS merges (Stoica et al., 2025). Where
that space is as wide as the layer, the CKA of Vᵀ x is near 1 whatever the experts are. Bars: the middle half
of the pairs and weights. The slides' figure is an image, so its values are not shown beside ours.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from remerge.exhibits._lines import legend_above
from remerge.exhibits.slides.depth import mark_layers, stacks
from remerge.records import Alignment
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import INK, MUTED

READS = ("alignment",)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "outputs": ("outputs W x", {"color": MUTED, "linestyle": (0, (1, 1.4)), "marker": "s"}),
    "updates": ("updates ΔW x", {"color": INK, "linestyle": "-", "marker": "o"}),
    "aligned": (
        "after KnOTS's alignment Vᵀ x",
        {"color": "#0072b2", "linestyle": (0, (5, 2)), "marker": "^"},
    ),
}
"""The kinds of alignment: their names in print, and how they are drawn."""


def build(run: Run) -> Figure:
    """A line for each thing that is compared."""
    found = run.alignment
    figure = Figure(5.4, 2.9)
    axes = figure.subplots()
    draw(axes, found, KINDS)
    axes.set_ylabel("CKA")
    legend_above(figure, axes)
    figure.facts = {"kind": kind(found), "inputs": found.inputs}
    return figure


def kind(found: Alignment) -> str:
    """A description of the experts."""
    return "LoRA experts" if found.adapters else "fully fine-tuned experts"


def draw(axes: Axes, found: Alignment, kinds: Mapping[str, tuple[str, dict[str, Any]]]) -> None:
    """Lines over depth, each with the quarters of what it is the mean of."""
    values = {what: by_layer(found, what) for what in kinds}
    layers = stacks(list(next(iter(values.values()))))
    for shift, (what, (label, look)) in enumerate(kinds.items()):
        at = 0
        for stack in layers:
            along = np.arange(at, at + len(stack))
            means = [float(np.mean(values[what][layer])) for layer in stack]
            low, high = np.array([np.quantile(values[what][layer], [0.25, 0.75]) for layer in stack]).T
            place = along + 0.08 * (shift - (len(kinds) - 1) / 2)
            axes.vlines(place, low, high, color=look["color"], linewidth=0.8, alpha=0.7)
            axes.plot(place, means, label=label if not at else None, linewidth=1.4, markersize=4, **look)
            at += len(stack)
    mark_layers(axes, layers)
    axes.set_ylim(0, 1.03)
    axes.grid(axis="y")


def by_layer(found: Alignment, what: str) -> dict[str, list[float]]:
    """CKA of all pairs in all weights of each layer."""
    pairs = np.triu_indices(len(found.experts), 1)
    values: dict[str, list[float]] = {}
    for matrix in found.matrices:
        values.setdefault(matrix.layer, []).extend(np.array(getattr(matrix, what))[pairs].tolist())
    return values
