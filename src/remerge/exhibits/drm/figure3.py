"""Entries that pruning drops from each basis vector.

The share of its entries that a row v_(t,i) of the split right singular vectors loses when {share}% of all
experts' entries together are dropped, against its place i, the largest singular value first. Line: mean of
the {tasks} experts; band: from the least to the most that one of them loses. Of {vectors} vectors, {plain}
lose more than 95% without renormalisation, {renormalised} with it. Shown is {matrix}, the first matrix of the
middle layer: which of the layer's matrices to show is our choice, and that singular values up to 1% of the
largest are left out is DRM's.
"""

import numpy as np

from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import INK, MUTED
from remerge.report.table import number

READS = ("weights",)
BAND = "#56b4e9"


def build(run: Run) -> Figure:
    """Two panels: without and with renormalisation."""
    found = run.weights.dropped
    figure = Figure(5.4, 2.5)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.1, right=0.99, top=0.89, bottom=0.19, wspace=0.06)
    figure.facts = {"share": number(100 * found.share, 0), "matrix": found.matrix}
    panels = (
        (left, "plain", "without renormalisation", found.plain),
        (right, "renormalised", "with renormalisation", found.renormalised),
    )
    for axes, key, title, shares in panels:
        dropped = 100 * np.array(shares)
        places = np.arange(1, dropped.shape[1] + 1)
        axes.fill_between(
            places, dropped.min(axis=0), dropped.max(axis=0), color=BAND, alpha=0.55, linewidth=0
        )
        axes.plot(places, dropped.mean(axis=0), color=INK, linewidth=1)
        axes.axhline(100 * found.share, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
        axes.set_title(title)
        axes.set_xlabel("basis vector i")
        axes.grid(axis="y")
        axes.margins(x=0.02)
        figure.facts |= {key: int((dropped > 95).sum()), "vectors": dropped.size}
    left.set_ylim(0, 100)
    left.set_ylabel("entries dropped (%)")
    return figure
