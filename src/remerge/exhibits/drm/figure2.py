"""ANP against the number of tasks.

A small marker is the merge of one subset; lines join the means over the subsets of each size (n =
{n_by_size}). Without markers: the unmerged models, on the same subsets. The paper's figure shows CLIP
ViT-B/32 and T5-Base, this one {base}, and no unmerged model. That the paper's unit is ANP follows from its
tests (Tables 5 and 6).
"""

from matplotlib.ticker import MaxNLocator

from remerge.config import Config
from remerge.exhibits._lines import legend_above
from remerge.report.figure import Figure
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.style import style

READS = ("scores", "merges")
METHODS = ("Model averaging", "TIES", "DARE-TIES", "DRM-H")
APART = 0.11
"""Between the markers of two methods, in tasks."""


def applies(config: Config) -> bool:
    """Whether DRM-H merges several numbers of tasks."""
    return len(config.sizes) > 1 and "drm_h" in {variant.name for variant in config.merge.variants}


def build(run: Run) -> Figure:
    """A line for each unmerged model, and a line with its points for each of the paper's methods."""
    figure = Figure(4.2, 3.3)
    axes = figure.subplots()
    for name in run.references:
        means = [run.mean_anp(name, size) for size in run.sizes]
        axes.plot(run.sizes, means, **style(name).line_options(), label=MODELS[name])
    shown = [variant for variant in run.variants if variant.label in METHODS]
    for place, variant in enumerate(shown):
        look, shift = style(variant.name), APART * (place - (len(shown) - 1) / 2)
        at = [size + shift for size in run.sizes]
        for x, size in zip(at, run.sizes, strict=True):
            values = run.anp_of(variant.name, size)
            axes.plot(
                [x] * len(values), values, **look.line_options() | {"linestyle": ""}, markersize=3, alpha=0.45
            )
        means = [run.mean_anp(variant.name, size) for size in run.sizes]
        axes.plot(at, means, **look.line_options(), label=variant.label, zorder=3)
    axes.set_xlabel("number of merged tasks")
    axes.set_ylabel("ANP (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    legend_above(figure, axes)
    return figure
