"""Sign agreement after pruning, as histograms.

Positions of the linear layers' weights by the share of experts that have the majority's sign, in % of the
positions at which any expert has a sign; the mean is given above each panel. Top: signs compared in the space
that was pruned. Bottom: signs compared in the original space, for the unpruned weights and for the entries
pruned in the joint space and projected back. Pruned to {density}%, as in Table 4. With {tasks} experts,
agreement takes only a few values, which are spread unevenly over the bins.
"""

from remerge.analysis.agreement import EDGES, histogram, mean_agreement
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import INK, PAPER
from remerge.report.table import number

READS = ("weights",)
BAR = "#0072b2"

PANELS = (
    ("original", "Original, pruned"),
    ("horizontal", "Joint, DRM-H"),
    ("vertical", "Joint, DRM-V"),
    ("unpruned", "Original, unpruned"),
    ("horizontal_back", "DRM-H, back"),
    ("vertical_back", "DRM-V, back"),
)


def build(run: Run) -> Figure:
    """Six panels with one scale."""
    figure = Figure(5.4, 4.0)
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.095, right=0.99, top=0.9, bottom=0.115, wspace=0.08, hspace=0.42)
    for axes, (space, title) in zip(grid.flat, PANELS, strict=True):
        tally = getattr(run.weights.signs, space)
        shares = [100 * share for share in histogram(tally)]
        bars = axes.bar(EDGES[:-1], shares, 0.1, align="edge", color=BAR, edgecolor=PAPER, linewidth=1)
        axes.bar_label(bars, [number(share, 0) for share in shares], fontsize=7.5, color=INK, padding=1)
        axes.set_title(f"{title}\nmean {number(100 * mean_agreement(tally), 1)}%")
        axes.grid(axis="y")
        axes.set_xticks(EDGES, [f"{edge:g}" for edge in EDGES])
    grid[0, 0].set_ylim(0, 1.1 * grid[0, 0].get_ylim()[1])
    figure.supxlabel("share of experts with the majority's sign", fontsize=9)
    figure.supylabel("positions (%)", fontsize=9)
    figure.facts = {"density": number(100 * run.weights.density, 0)}
    return figure
