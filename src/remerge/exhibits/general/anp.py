"""ANP against the number of tasks.

Mean ANP over all merges of a given number of tasks. Bars: 95% Student t intervals over merges, omitted where
there is a single merge. Methods are shifted slightly sideways to keep them apart. {unmerged} on the same
subsets. Hollow markers: one coefficient per task (TL); filled: one per task and layer (LL).
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import MaxNLocator

from remerge.analysis.significance import mean_interval
from remerge.config import Config
from remerge.exhibits._lines import label_ends
from remerge.exhibits._published import Published
from remerge.report.figure import Figure
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.style import Style, apart, style

READS = ("scores", "merges")
APART = 0.36
"""The spread of the markers of a size, in tasks, so that bars do not hide each other."""


def applies(config: Config) -> bool:
    """Whether there are several sizes; DivMerge and DRM number the figure."""
    return config.paper not in ("divmerge", "drm") and len(config.sizes) > 1


def build(run: Run) -> Figure:
    """One line per method."""
    return anp(run)


def anp(run: Run, paper: Published | None = None, names: Mapping[str, str] | None = None) -> Figure:
    """Mean ANP by size; the paper's own values are the dashed lines of the same colour."""
    figure = Figure(5.4, 4.6)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.105, right=0.645, top=0.97, bottom=0.105)
    sizes = run.sizes
    ends: list[tuple[float, str, Style]] = []
    for name in run.references:
        means = [run.mean_anp(name, size) for size in sizes]
        look = style(name)
        axes.plot(sizes, means, **look.line_options(), linewidth=1.8, zorder=2)
        ends.append((means[-1], MODELS[name], look))
    looks = apart({variant.name: style(variant.name, variant.params) for variant in run.variants})
    for place, variant in enumerate(run.variants):
        look = looks[variant.name]
        mean, half = np.array([mean_interval(run.anp_of(variant.name, size)) for size in sizes]).T
        at = np.array(sizes) + APART * (place - (len(run.variants) - 1) / 2) / len(run.variants)
        axes.errorbar(at, mean, half, fmt="none", ecolor=look.colour, elinewidth=1.1, capsize=1.5, zorder=2.8)
        axes.plot(at, mean, **look.line_options(), markersize=4.5, zorder=3)
        # A method that only merges pairs ends early.
        ends += [(float(value), variant.label, look) for value in mean[np.isfinite(mean)][-1:]]
        if paper and names and variant.label in names:
            values = [paper.value(str(size), names[variant.label]) for size in sizes]
            dashed = {"linestyle": "--", "linewidth": 0.9, "markersize": 3, "markeredgewidth": 0.8}
            axes.plot(at, values, **look.line_options() | dashed, zorder=2.5)
    axes.set_xlabel("number of merged tasks" + (" (dashed: published)" if paper else ""))
    axes.set_ylabel("mean ANP (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.margins(x=0.03)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), high)
    label_ends(axes, sizes[-1] + APART / 2, ends)
    both = "; dash-dotted: the model fine-tuned on the union of the tasks; both"
    figure.facts = {"unmerged": f"Dotted: the unmerged base{both if 'multitask' in run.references else ','}"}
    return figure
