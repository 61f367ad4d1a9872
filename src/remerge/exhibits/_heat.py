"""A square of shaded cells with their numbers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from remerge.report.style import PAPER


def heat(axes: Axes, values: Any, names: Sequence[str], title: str) -> None:
    """Draw ``values`` from white at 0 to blue at the highest; ``names`` label rows and columns."""
    highest = float(np.nanmax(values)) or 1.0
    shades = mpl.colormaps["Blues"]
    axes.pcolormesh(values, cmap=shades, vmin=0, vmax=1.15 * highest, edgecolors=PAPER, linewidth=1.5)
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{value:z.2f}".replace("-", "−"),
            ha="center",
            va="center",
            fontsize=8.5 if len(values) <= 5 else 6.3,
            color=_readable(shades(value / (1.15 * highest))),
        )
    axes.set_title(title)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    places = [place + 0.5 for place in range(len(names))]
    axes.set_yticks(places, names)
    axes.set_xticks(places, names)
    if _collide(axes):
        axes.set_xticks(places, names, rotation=30, ha="right", rotation_mode="anchor")


def _collide(axes: Axes) -> bool:
    """Whether two neighbouring column names would touch."""
    widths = [label.get_window_extent().width for label in axes.get_xticklabels()]
    cell = axes.get_window_extent().width / len(widths)
    return any((one + other) / 2 > 0.95 * cell for one, other in pairwise(widths))


def _readable(shade: Sequence[float]) -> str:
    """Black or white, whichever stands out more from a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shade[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#fafafa" if luminance < 0.18 else "#0b0d0f"
