"""One look for every figure: a method has the same colour, marker and line wherever no other is like it.

Colours are Okabe and Ito's, which colour-blind readers can distinguish; markers and line styles distinguish
the methods without colour. A hollow marker is a task-level method, a filled one a layer-level method; a
dashed line is a method with tuned parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from remerge.report.labels import printed

INK = "#24292f"
MUTED = "#6e7781"
GRID = "#d8dee4"
PAPER = "#ffffff"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "svg.fonttype": "path",
    "svg.hashsalt": "remerge",
    "pdf.fonttype": 42,
}

_KNOWN = {
    "Model averaging": ("#e69f00", "<"),
    "Task arithmetic": ("#cc79a7", "s"),
    "Multi-SLERP": ("#56b4e9", "^"),
    "TIES": ("#8c6d31", "P"),
    "DARE-TIES": ("#40b0a6", "X"),
    "DRM-H": ("#4b1d91", "h"),
    "DRM-V": ("#a05fd6", "d"),
    "AdaMerging": ("#d55e00", "D"),
    "DivMerge KL": ("#009e73", "v"),
    "DivMerge JS": ("#0072b2", "o"),
}
_FURTHER = {
    "SLERP": ("#437f1d", "H"),
    "NuSLERP": ("#9c4d23", "H"),
    "Karcher mean": ("#8a0139", "8"),
    "Layer-wise task arithmetic": ("#52448f", "X"),
    "LiNeS": ("#2f867d", "p"),
    "MetaGPT": ("#9c4d23", "p"),
    "Model Stock": ("#5a6b00", "s"),
    "DARE": ("#2f867d", "H"),
    "DELLA": ("#6a2a80", ">"),
    "Breadcrumbs": ("#52448f", "p"),
    "Consensus TA": ("#8a0139", "^"),
    "SCE": ("#6a2a80", "X"),
    "NearSwap": ("#5a6b00", "d"),
    "PCB-Merging": ("#9c4d23", "*"),
    "RAM": ("#437f1d", "p"),
    "KnOTS": ("#6a2a80", "*"),
    "TSV-M": ("#b01a6f", "p"),
    "STAR": ("#2f867d", "*"),
    "CART": ("#b01a6f", "X"),
    "Iso-C": ("#5a6b00", "8"),
    "Iso-CTS": ("#437f1d", ">"),
    "WUDI-Merging": ("#52448f", "8"),
    "DOGE TA": ("#8a0139", "d"),
    "Fisher": ("#9c4d23", ">"),
    "RegMean": ("#2f867d", "d"),
}
_OTHERS = ("#7b3294", "#c51b7d", "#4d9221", "#b15928", "#35978f", "#5e4fa2", "#9e0142", "#667a00")
_MARKERS = (">", "p", "^", "*", "d", "X", "v", "s")  # of those that look like circles, the pentagon alone
_ALIKE = 60
"""Colours whose red, green and blue differ by less in sum cannot be told apart where they are small."""

_LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Style:
    """The look of a model."""

    colour: str
    marker: str
    line: Any
    filled: bool

    def line_options(self) -> dict[str, Any]:
        """Keywords for ``Axes.plot``."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.line,
            "markerfacecolor": self.colour if self.filled else PAPER,
            "markeredgecolor": self.colour,
            "markeredgewidth": 1.3,
        }


def tasks_apart(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Keywords for ``Axes.plot`` of a line for each task, which differ even without colour."""
    colours = [colour for colour, _ in _KNOWN.values()]
    return {
        task: {
            "color": colours[-1 - k % len(colours)],
            "linestyle": _LINES[k % len(_LINES)],
            "linewidth": 1.2,
        }
        for k, task in enumerate(tasks)
    }


def style(variant: str, params: Mapping[str, Any] | None = None) -> Style:
    """The look of a variant, `base` or `multitask`; it depends on nothing else."""
    if variant == "base":
        return Style(MUTED, "", (0, (1, 1.4)), True)
    if variant == "multitask":
        return Style(INK, "", (0, (7, 2, 1, 2)), True)
    name = printed(variant, params)
    look = _KNOWN.get(name.objective) or _FURTHER.get(name.objective)
    if look and name.notes in ((), ("tuned",)):
        return Style(*look, "--" if name.notes else "-", name.level != "TL")
    seed = crc32(variant.encode())
    return Style(_OTHERS[seed % 8], _MARKERS[seed // 8 % 8], "-", name.level != "TL")


def apart(looks: Mapping[str, Style]) -> dict[str, Style]:
    """The looks of one figure: the later of two that are alike takes one that is like no other."""
    found: dict[str, Style] = {}
    for name, look in looks.items():
        if any(_alike(look, other) for other in found.values()):
            taken = [*looks.values(), *found.values()]
            free = (replace(look, colour=colour, marker=marker) for marker in _MARKERS for colour in _OTHERS)
            look = next((new for new in free if not any(_alike(new, old) for old in taken)), look)
        found[name] = look
    return found


def _alike(one: Style, other: Style) -> bool:
    """Whether nothing but a shade of colour distinguishes two looks."""
    same = replace(one, colour=other.colour) == other
    shades = zip(bytes.fromhex(one.colour[1:]), bytes.fromhex(other.colour[1:]), strict=True)
    return same and sum(abs(a - b) for a, b in shades) < _ALIKE


def series(place: int) -> Style:
    """The look of items other than methods, such as tasks, by their position."""
    return Style(_OTHERS[place % 8], _MARKERS[place % 8], "-", place < 8)
