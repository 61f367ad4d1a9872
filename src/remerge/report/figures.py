"""The figures of the DivMerge paper, from records; the same bytes every time."""

from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from remerge.analysis.significance import mean_interval
from remerge.errors import UserError
from remerge.files import write_bytes
from remerge.report.labels import METHODS, task_label
from remerge.report.records import Records
from remerge.report.style import PAPER, RC, Style, style

FORMATS = ("pdf", "svg", "png")
_NO_DATES: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


def divmerge_figure2(records: Records) -> Figure:
    """Mean ANP against the number of merged tasks, with 95% t intervals (DivMerge, Figure 2).

    The paper's own values, where it ran this benchmark, are the dashed lines of the same colour.
    """
    figure = Figure(figsize=(5.4, 4.6))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.105, right=0.645, top=0.97, bottom=0.105)
    sizes = records.sizes
    paper = records.published.first("divmerge_table6", "divmerge_table7")
    ends: list[tuple[float, str, Style]] = []
    for name in records.references:
        means = [fmean(records.anp_of(name, size)) for size in sizes]
        look = style(name)
        axes.plot(sizes, means, **look.line_options(), linewidth=1.8, zorder=2)
        ends.append((means[-1], METHODS[name], look))
    for variant in records.variants:
        look = style(variant.name, variant.params)
        spans = [mean_interval(records.anp_of(variant.name, size)) for size in sizes]
        mean, half = np.array(spans).T
        shade = axes.fill_between(sizes, mean - half, mean + half, color=look.colour, alpha=0.12)
        shade.set_linewidth(0)
        axes.plot(sizes, mean, **look.line_options(), zorder=3)
        ends.append((float(mean[-1]), variant.label, look))
        if paper and (row := variant.row_in("divmerge")):
            values = [records.published.value(paper, str(s), row) for s in sizes]
            dashed = look.line_options() | {"linestyle": "--", "linewidth": 0.9, "markersize": 3}
            axes.plot(sizes, values, **dashed | {"markeredgewidth": 0.8}, zorder=2.5)
    axes.set_xlabel("number of merged tasks" + (" (dashed: published)" if paper else ""))
    axes.set_ylabel("mean ANP (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.margins(x=0.03)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), high)
    _label_ends(axes, sizes[-1], ends)
    return figure


def divmerge_figure5(records: Records) -> Figure:
    """The divergence of every expert from each task's own, KL and JS (DivMerge, Figure 5)."""
    figure = Figure(figsize=(5.4, 2.9))
    left, right = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.135, right=0.99, top=0.9, bottom=0.2, wspace=0.06)
    for axes, kind, head in ((left, "kl", "KL (nats)"), (right, "js", "JS (nats)")):
        _heat(axes, records.divergence(kind).to_numpy(), head)
        names = [task_label(task) for task in records.tasks]
        places = [place + 0.5 for place in range(len(names))]
        axes.set_xticks(places, names, rotation=30 if len(names) > 5 else 0)
        axes.set_yticks(places, names)
        axes.set_xlabel("on the inputs of")
    left.set_ylabel("expert of")
    left.invert_yaxis()  # shared: the first expert on top in both
    return figure


FIGURES: dict[str, Callable[[Records], Figure]] = {
    "divmerge_figure2": divmerge_figure2,
    "divmerge_figure5": divmerge_figure5,
}


def draw(name: str, records: Records, suffix: str) -> bytes:
    """The bytes of one figure in one format."""
    settings: Any = {**mpl.rcParamsDefault, **RC, "backend": "agg"}  # whatever the user's own
    with mpl.rc_context(settings):
        figure = FIGURES[name](records)
        figure.canvas.draw()
        buffer = BytesIO()
        metadata = _NO_DATES[suffix]
        figure.savefig(buffer, format=suffix, dpi=200, metadata=metadata)
    return buffer.getvalue()


def write_figure(name: str, results: Path) -> None:
    """Write ``figures/<name>.pdf``, ``.svg`` and ``.png``.

    Raises:
        UserError: no figure has that name, or a record is missing.
    """
    if name not in FIGURES:
        raise UserError(f"unknown figure {name!r}, known: {', '.join(FIGURES)}")
    render = partial(draw, name, Records(results))
    for suffix in FORMATS:
        write_bytes(Path(results) / "figures" / f"{name}.{suffix}", render(suffix))


def _label_ends(axes: Axes, last: float, ends: Sequence[tuple[float, str, Style]]) -> None:
    """Name every line at its right end, names kept apart, each with its marker and a leader."""
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
    """Places in [0, 1], in the falling order of ``wanted``, at least ``gap`` apart and near it."""
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


def _heat(axes: Axes, values: Any, title: str) -> None:
    highest = float(np.nanmax(values)) or 1.0
    shades = mpl.colormaps["Blues"]
    axes.pcolormesh(values, cmap=shades, vmin=0, vmax=1.15 * highest, edgecolors=PAPER, linewidth=1.5)
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{value:z.2f}",
            ha="center",
            va="center",
            fontsize=8.5 if len(values) <= 5 else 6.3,
            color=_readable(shades(value / (1.15 * highest))),
        )
    axes.set_title(title)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _readable(shade: Sequence[float]) -> str:
    """Black or white, whichever stands out more from a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shade[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#fafafa" if luminance < 0.18 else "#0b0d0f"
