"""Does the divergence reached predict ANP?

Each point is a merge with learned coefficients: its ANP on test splits against the objective that it reached,
in nats per task, as the mean over the last pass through the inputs on which it was learned. There is one
panel per objective. Hollow: one coefficient per task (TL); filled: one per task and layer (LL); a legend
distinguishes further settings. ρ is Spearman's correlation over all merges, and within sizes, after
subtracting from both values the mean over the merges of that size, because with more tasks the objective is
higher and the ANP lower. Methods that learn nothing have no objective and are left out.
"""

from collections.abc import Sequence
from statistics import fmean

from remerge.analysis.correlation import spearman
from remerge.config import Config
from remerge.records import Merge
from remerge.report.figure import Figure
from remerge.report.labels import printed
from remerge.report.recorded import Variant
from remerge.report.run import Run
from remerge.report.style import apart, style
from remerge.report.table import number

READS = ("merges",)
ACROSS = 3
LEVELS = ("task", "layer")
"""The two kinds that hollow and filled markers distinguish."""


def applies(config: Config) -> bool:
    """Whether coefficients are learned, for several merges."""
    learned = [variant for variant in config.merge.variants if config.is_learned(variant)]
    several = sum(len(config.subsets(size)) for size in config.sizes) > 2
    return several and any("subsets" in config.groups(variant).values() for variant in learned)


def build(run: Run) -> Figure:
    """One panel per objective."""
    panels: dict[str, list[tuple[Variant, list[Merge]]]] = {}
    for variant in run.variants:
        merges = [merge for size in run.sizes for merge in run.merges(variant.name, size)]
        if merges and run.config.is_learned(run.config.variant(variant.name)):
            panels.setdefault(printed(variant.name, variant.params).objective, []).append((variant, merges))
    across = min(len(panels), ACROSS)
    down = -(-len(panels) // across)
    height = 2.3 * down + 0.1
    figure = Figure(5.4 if across > 1 else 3.4, height)
    grid = figure.panels(len(panels), across, sharey=True).flat
    figure.subplots_adjust(left=0.1 if across > 1 else 0.16, right=0.985, wspace=0.12, hspace=0.62)
    figure.subplots_adjust(top=1 - 0.5 / height, bottom=0.42 / height)
    looks = apart({v.name: style(v.name, v.params) for made in panels.values() for v, _ in made})
    for place, (axes, (title, made)) in enumerate(zip(grid, panels.items(), strict=False)):
        for variant, merges in made:
            options = looks[variant.name].line_options() | {"linestyle": "", "alpha": 0.8}
            points = [(reached(merge), merge.anp) for merge in merges]
            look = options | {"markersize": 4, "markeredgewidth": 0.9, "label": variant.label}
            axes.plot(*zip(*points, strict=True), **look)
        every = [merge for _, merges in made for merge in merges]
        over_all, within = correlations(every)
        words = f"ρ = {number(over_all, 2)}, within {number(within, 2)}\nn = {len(every)}"
        axes.set_title(f"{title}\n{words}", fontsize=7.5)
        axes.set_xlabel("objective reached", fontsize=8)
        axes.tick_params(labelsize=7.5)
        axes.grid()
        if place % across == 0:
            axes.set_ylabel("ANP (%)", fontsize=8)
    if any(len(made) > len(LEVELS) for made in panels.values()):
        figure.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, fontsize=7, frameon=False)
    return figure


def reached(merge: Merge) -> float:
    """The mean loss of the last pass over the inputs, a task: the trace sums over tasks."""
    steps = max(1, len(merge.trace) // int(merge.params["epochs"]))
    return fmean(merge.trace[-steps:]) / merge.size


def correlations(merges: Sequence[Merge]) -> tuple[float, float]:
    """Spearman's ρ of objective and ANP, and that of what is left of both when sizes' means are taken off.

    Sizes of a single merge have nothing left, and do not count there.
    """
    pairs = [(reached(merge), float(merge.anp or 0), merge.size) for merge in merges]
    left: list[tuple[float, float]] = []
    for size in {size for _, _, size in pairs}:
        same = [(loss, anp) for loss, anp, at in pairs if at == size]
        means = [fmean(values) for values in zip(*same, strict=True)]
        left += [(loss - means[0], anp - means[1]) for loss, anp in same if len(same) > 1]
    losses, anps, _ = zip(*pairs, strict=True)
    inside = spearman(*map(list, zip(*left, strict=True))) if left else float("nan")
    return spearman(losses, anps), inside
