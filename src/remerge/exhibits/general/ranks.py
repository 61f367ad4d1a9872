"""Mean ranks over merges.

Mean over merges of each method's rank (1 is the best) among the {methods} methods that make {all}.
Methods joined by a bar do not differ by Nemenyi's test at 5%, whose critical difference is {critical}
ranks. Friedman's test of no difference at all: {p}. Both tests assume independent merges, but merges that
share tasks are not independent: see the intervals of the differences.
"""

from math import ceil
from textwrap import fill

from matplotlib.axes import Axes

from remerge.analysis.ranks import Ranks, ranks
from remerge.config import Config
from remerge.exhibits._lines import tallest
from remerge.report.figure import Figure
from remerge.report.recorded import Variant
from remerge.report.run import Run
from remerge.report.style import INK, MUTED, style
from remerge.report.table import number

READS = ("scores", "merges")
WIDTH, LEFT, RIGHT, SCALE, BARS = 5.4, 1.95, 3.45, 0.55, 0.11
"""In inches: the figure, the ends of the scale, its height from above; between two bars."""
ROW = 0.21
DIGITS = 0.165
"""Inches between the middles of two numbers on the scale that do not touch."""


def applies(config: Config) -> bool:
    """Whether three methods make all of several merges."""
    return (
        len(config.makers(*config.sizes)) > 2 and sum(len(config.subsets(size)) for size in config.sizes) > 1
    )


def build(run: Run) -> Figure:
    """The critical-difference diagram of Demšar (2006)."""
    merges = sum(len(run.config.subsets(size)) for size in run.sizes)
    made = [(v, [anp for size in run.sizes for anp in run.anp_of(v.name, size)]) for v in run.variants]
    shown = [variant for variant, values in made if len(values) == merges]
    found = ranks([values for _, values in made if len(values) == merges])
    top = SCALE + 0.15 + BARS * len(found.groups)
    names = [fill(variant.label, 30) for variant in shown]
    row = ROW * tallest(names)
    height = top + row * ((len(shown) + 1) // 2)
    figure = Figure(WIDTH, height)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.axis("off")
    last = len(shown)
    _scale(axes, last, found.critical)
    for place, group in enumerate(found.groups):
        ends = [_across(found.means[group[end]], last) for end in (0, -1)]
        axes.plot(ends, [SCALE + 0.13 + BARS * place] * 2, color=INK, linewidth=2.6)
    _names(axes, shown, names, found, top, row)
    p = "p < 0.0001" if found.p < 0.0001 else f"p = {number(found.p, 4)}"
    figure.facts = {"methods": len(shown), "critical": number(found.critical, 2), "p": p}
    return figure


def _across(rank: float, last: int) -> float:
    """The position of a rank on the scale from 1 to ``last``, in inches."""
    return LEFT + (RIGHT - LEFT) * (rank - 1) / (last - 1)


def _scale(axes: Axes, last: int, critical: float) -> None:
    """The scale of ranks, and the critical difference above it."""
    axes.plot([LEFT, RIGHT], [SCALE, SCALE], color=MUTED, linewidth=0.8)
    for rank in range(1, last + 1, ceil(DIGITS * (last - 1) / (RIGHT - LEFT))):
        at = _across(rank, last)
        axes.plot([at, at], [SCALE - 0.05, SCALE], color=MUTED, linewidth=0.8)
        axes.text(at, SCALE - 0.08, str(rank), ha="center", va="bottom", fontsize=8)
    ends = [LEFT, _across(1 + critical, last)]
    axes.plot(ends, [0.15, 0.15], color=INK, linewidth=1.1, marker="|", markersize=5)
    axes.text(ends[1] + 0.06, 0.15, "critical difference", va="center_baseline", fontsize=8)


def _names(
    axes: Axes, shown: list[Variant], names: list[str], found: Ranks, top: float, height: float
) -> None:
    """The better half to the left and the others to the right, each joined to its rank; the ends on top."""
    order = sorted(range(len(shown)), key=lambda place: found.means[place])
    half = (len(order) + 1) // 2
    for side, edge, align in ((order[:half], LEFT - 0.1, "right"), (order[half:][::-1], RIGHT + 0.1, "left")):
        for row, place in enumerate(side):
            label, mean = names[place], found.means[place]
            options = style(shown[place].name, shown[place].params).line_options() | {"linewidth": 0.9}
            x, y = _across(mean, len(shown)), top + height * (row + 0.4)
            axes.plot(
                [x, x, edge], [SCALE, y, y], **options | {"linestyle": "-"}, markevery=[0], markersize=5
            )
            for value, beyond in ((f"{mean:.1f}", 0.05), (label, 0.36)):
                x = edge + (beyond if align == "left" else -beyond)
                axes.text(x, y, value, ha=align, va="center", fontsize=7.5, linespacing=0.9)
