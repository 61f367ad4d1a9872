"""Lines with their names at their right ends."""

from collections.abc import Collection, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remerge.report.style import Style

LETTER = 0.063
"""Inches that a letter takes at most in the mean, of 7.5 points."""
TITLES = (9.5, 8.5, 7.5, 6.5, 5.5, 4.5)
"""Points of a title's letters, the first for all that fit."""


def label_ends(axes: Axes, last: float, ends: Sequence[tuple[float, str, Style]]) -> None:
    """Name every line at its right end, without overlaps, each with its marker and a leader."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: -end[0])
    wanted = [(value - low) / (high - low) for value, _, _ in ordered]
    places = spread(wanted, gap=min(0.052, 1 / len(ordered)))
    edge = axes.transLimits.transform((last, low))[0]
    for (_, name, look), at, to in zip(ordered, wanted, places, strict=True):
        options: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        leader = [edge + 0.02, 1.02, 1.05], [at, to, to]
        axes.plot(*leader, color=look.colour, linewidth=0.7, alpha=0.8, **options)
        sample = {**look.line_options(), "linewidth": 1.8 if not look.marker else 1.6}
        axes.plot([1.05, 1.095, 1.14], [to] * 3, markevery=[1], **sample, **options)
        axes.text(1.165, to, name, va="center_baseline", fontsize=8.5, **options)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions in [0, 1] near ``wanted``, in the same descending order, at least ``gap`` apart."""
    groups: list[tuple[list[float], float]] = []  # members, and the middle of their block
    for value in wanted:
        members = [value]
        middle = value
        while True:
            reach = gap * (len(members) - 1) / 2
            middle = min(max(sum(members) / len(members), reach), 1 - reach)
            if not groups:
                break
            above, centre = groups[-1]
            if centre - gap * (len(above) - 1) / 2 - gap >= middle + reach - 1e-12:
                break
            members = above + members
            groups.pop()
        groups.append((members, middle))
    places = []
    for members, middle in groups:
        top = middle + gap * (len(members) - 1) / 2
        places += [top - gap * place for place in range(len(members))]
    return places


def columns_of(names: Collection[str], width: float) -> int:
    """The number of columns in which a legend of small letters fits into a width in inches."""
    return max(1, int(width / (0.5 + LETTER * max(map(len, names)))))


def set_title(axes: Axes, title: str) -> None:
    """A title no wider than its axes: in smaller letters if need be, as long as they can be read."""
    text = axes.set_title(title)
    for size in TITLES:
        text.set_fontsize(size)
        if text.get_window_extent().width <= axes.get_window_extent().width:
            break


def tallest(names: Sequence[str]) -> float:
    """How much higher than for one line a row must be for the highest of some names."""
    return max(1.0, max(name.count("\n") + 1 for name in names) / 1.6)


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put the names of the lines above the axes, four in a row, and fit everything into the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.set_layout_engine("constrained")
    near: dict[str, Any] = {"handlelength": 1.7, "handletextpad": 0.5, "columnspacing": 1.2, "frameon": False}
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4), fontsize=8, **near)
