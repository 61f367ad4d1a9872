"""Quality against cost.

Mean ANP of the largest merges against the mean time to make one of them: merging weights and learning
coefficients. Above and to the left is better. Rimmed: "tuned" by name. The time does not include a choice of
parameters on validation splits, that of learned methods neither. {differing} {loaded}
"""

from math import ceil
from typing import Any

from matplotlib.lines import Line2D

from remerge.exhibits._lines import columns_of, set_title
from remerge.exhibits._rows import differing, loaded
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import INK, Style, apart, style

READS = ("scores", "merges")


def build(runs: list[Run]) -> Figure:
    """One panel per benchmark, one point per method."""
    across = min(len(runs), 3)
    down = ceil(len(runs) / across)
    labels = apart({v.label: style(v.name, v.params) for run in runs for v in run.variants})
    columns = columns_of(labels, 2.7 * across)
    legend = 0.3 + 0.17 * ceil(len(labels) / columns)
    height = 2.6 * down + legend
    figure = Figure(2.7 * across, height)
    panels = figure.panels(len(runs), across).flat
    figure.subplots_adjust(left=0.2 / across, right=0.98, wspace=0.25, hspace=0.5)
    figure.subplots_adjust(top=1 - 0.3 / height, bottom=(legend + 0.4) / height)
    for axes, run in zip(panels, runs, strict=False):
        size = run.sizes[-1]
        for variant in run.variants:
            merges = run.merged[(run.merged["variant"] == variant.name) & (run.merged["size"] == size)]
            seconds = float((merges["merge"] + merges["fit"]).mean())
            axes.plot(seconds, run.mean_anp(variant.name, size), **_point(labels[variant.label]))
        axes.set_xscale("log")
        axes.margins(0.1)
        set_title(axes, f"{run.benchmark}, {size} tasks")
        axes.set_xlabel("seconds per merge")
        axes.grid(axis="y")
    figure.axes[0].set_ylabel("mean ANP (%)")
    handles = [Line2D([], [], **_point(look)) for look in labels.values()]
    figure.legend(handles, list(labels), loc="lower center", ncols=columns, fontsize=7.5, frameon=False)
    figure.facts = {"differing": differing(runs), "loaded": loaded(runs)}
    return figure


def _point(look: Style) -> dict[str, Any]:
    rim = {"markeredgecolor": INK} if look.line == "--" else {}
    return {**look.line_options(), "linestyle": "", **rim}
