"""How far each method is behind the best.

Mean ANP of a method minus that of {best}, the best over all merges, on the same merges{shown}. Bars: 95%
intervals from a bootstrap that draws test examples and, where a size has several merges, merges. Both
methods, and the experts by which they are normalised, are drawn together. Where a bar crosses the line, the
two methods cannot be distinguished. A bar beside the line says less, since it is not corrected for the number
of methods: the p of the table of all methods is. The scale is linear up to {linear} points on either side and
logarithmic beyond.
"""

from textwrap import fill

from matplotlib.ticker import MaxNLocator

from remerge.analysis.resampling import DRAWS
from remerge.config import Config
from remerge.exhibits._lines import tallest
from remerge.exhibits._resampled import Comparison
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import INK, style

READS = ("scores", "merges")
PANELS = 4
"""At most so many sizes are shown, the smallest and the largest among them."""
LINEAR = 5
"""Points up to which the scale is linear: one method far behind would hide how the others differ."""
TICKS = (-30, -5, 0, 5, 30)
"""Where a part of the scale is logarithmic."""


def applies(config: Config) -> bool:
    """Whether two methods make all merges."""
    return len(config.makers(*config.sizes)) > 1


def build(run: Run) -> Figure:
    """One row per method, one panel per size."""
    compared = Comparison(run, DRAWS)
    rows = [variant for variant in compared.variants if variant != compared.best]
    sizes = sorted({run.sizes[round(k * (len(run.sizes) - 1) / (PANELS - 1))] for k in range(PANELS)})
    names = [fill(variant.label, 30) for variant in rows]
    height = 0.2 * tallest(names) * len(rows) + 0.95
    figure = Figure(5.4, height)
    panels = figure.subplots(1, len(sizes), sharex=True, sharey=True, squeeze=False)[0]
    left, right = 1.75 / 5.4, 0.985
    figure.subplots_adjust(left=left, right=right, wspace=0.08)
    figure.subplots_adjust(top=1 - 0.4 / height, bottom=0.5 / height)
    panels[0].set_xscale("symlog", linthresh=LINEAR, linscale=1.2)
    panels[0].margins(x=0.06)
    for axes, size in zip(panels, sizes, strict=True):
        for place, variant in enumerate(rows):
            found = compared.lead(variant.name, compared.best.name, size)
            options = style(variant.name, variant.params).line_options() | {"linestyle": ""}
            # With few examples, an interval may leave out the mean.
            bar = [[max(found.mean - found.low, 0.0)], [max(found.high - found.mean, 0.0)]]
            axes.errorbar(found.mean, place, xerr=bar, **options, markersize=3.5, elinewidth=1.2, capsize=2.5)
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        axes.set_title(f"{size} tasks\nn = {len(run.config.subsets(size))}", fontsize=8)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=7.5)
    low, high = panels[0].get_xlim()
    linear = low >= -LINEAR and high <= LINEAR
    places = MaxNLocator(4).tick_values(low, high) if linear else TICKS
    ticks = [tick for tick in places if low <= tick <= high]
    panels[0].set_xticks(ticks, [f"{tick:zg}".replace("-", "−") for tick in ticks])
    panels[0].set_yticks(range(len(rows)), names, fontsize=7.5, linespacing=0.9)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    label = f"ANP minus that of {compared.best.label} (points)"
    figure.supxlabel(label, x=(left + right) / 2, y=0.08 / height, fontsize=9, va="bottom")
    shown = "" if sizes == run.sizes else f", at {len(sizes)} of the {len(run.sizes)} sizes"
    figure.facts = {"best": compared.best.label, "linear": LINEAR, "shown": shown}
    return figure
