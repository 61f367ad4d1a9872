"""ANP against the number of inputs.

ANP of {pairs} on the test splits, against the number of unlabelled inputs per task from which coefficients
are learned. Dashed horizontal lines: the methods that use no inputs.
"""

from math import ceil, nan

from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from remerge.config import Config
from remerge.exhibits._lines import columns_of, set_title
from remerge.exhibits._rows import mean
from remerge.exhibits._sweep import across, without
from remerge.records import Merge
from remerge.report.figure import Figure
from remerge.report.labels import every, task_label
from remerge.report.run import Run
from remerge.report.style import Style

READS = ("merges",)
SWEPT = "inputs"


def applies(config: Config) -> bool:
    """Whether there are pairs, and variants that differ in how many inputs they take."""
    return len([v for v in config.makers(2) if config.is_learned(v) and "inputs" in v.params]) > 1


def build(run: Run) -> Figure:
    """One panel per pair, one line per method."""
    pairs = run.config.subsets(2)
    wide = min(len(pairs), 3)
    down = ceil(len(pairs) / wide)
    found: dict[str, tuple[Style, list[list[Merge]]]] = {}
    for variant in run.variants:
        name, look = without(variant, SWEPT)
        if merges := run.merges(variant.name, 2):
            found.setdefault(name, (look, []))[1].append(merges)
    columns = min(columns_of(found, 5.4), 4)
    legend = 0.25 + 0.17 * ceil(len(found) / columns)
    height = 0.55 + 1.75 * down + legend
    figure = Figure(5.4, height)
    panels = figure.panels(len(pairs), wide, sharey=True)
    figure.subplots_adjust(left=0.095, right=0.985, top=1 - 0.25 / height, bottom=(legend + 0.4) / height)
    figure.subplots_adjust(wspace=0.08, hspace=0.5)
    made = [merge for _, some in found.values() for merges in some for merge in merges]
    numbers = sorted({merge.params.get(SWEPT, 0) for merge in made} - {0})
    for axes, pair in zip(panels.flat, pairs, strict=False):
        for look, some in found.values():
            # A pair may have fewer inputs than another, so that several variants are one point of it.
            anp = dict(_point(merges, pair) for merges in some)
            if 0 in anp:
                axes.plot([numbers[0], numbers[-1]], [anp[0]] * 2, **across(look))
            else:
                axes.plot(*zip(*sorted(anp.items()), strict=True), **look.line_options() | {"markersize": 5})
        axes.set_xscale("log")
        axes.set_xticks(numbers, list(map(str, numbers)), fontsize=7.5)
        axes.xaxis.set_minor_locator(NullLocator())
        set_title(axes, " + ".join(map(task_label, pair)))
        axes.grid(axis="y")
    panels[0, 0].set_ylabel("ANP (%)")
    figure.supxlabel("inputs of each task", fontsize=9, y=(legend + 0.02) / height)
    looks = [
        look.line_options() if SWEPT in some[0][0].params else across(look) for look, some in found.values()
    ]
    handles = [Line2D([], [], **{**options, "markersize": 5}) for options in looks]
    figure.legend(handles, [*found], loc="lower center", ncols=columns, frameon=False, fontsize=7.5)
    figure.facts = {"pairs": every(len(pairs), "pair")}
    return figure


def _point(merges: list[Merge], pair: tuple[str, ...]) -> tuple[int, float]:
    """The number of inputs of a variant's merge of a pair, or 0, and its ANP, averaged over seeds."""
    mine = [merge for merge in merges if tuple(sorted(merge.tasks)) == pair]
    return mine[0].params.get(SWEPT, 0), mean(nan if merge.anp is None else merge.anp for merge in mine)
