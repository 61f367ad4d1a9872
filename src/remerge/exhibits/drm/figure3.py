"""Entries that pruning drops from each basis vector.

The share of its entries that a row v_(t,i) of the split right singular vectors loses when {share}% of the
entries of all experts together are dropped, against its index i, with the largest singular value first. Line:
the mean over the {tasks} experts; band: from the expert that loses least to the one that loses most. Of
{vectors} vectors, {plain} lose more than 95% without renormalisation, and {renormalised} with it. The figure
shows {matrix}, the first matrix of the middle layer: this matrix is our choice. DRM itself leaves out
singular values up to 1% of the largest.
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
