"""A figure in three formats with one look, and the same bytes every time."""

import re
from html import escape
from io import BytesIO
from math import ceil
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing
from matplotlib.transforms import Bbox

from remerge.report.style import RC

FORMATS = ("pdf", "svg", "png")
DPI = 200
"""The resolution in which figures are measured and drawn."""
MARGIN = 0.02
"""Around what is drawn, in inches."""
FULL, ON_PAGE = 5.4, 40
"""The width of a wide figure in inches, and on the page in its own units (`.svg` of page.css)."""
_NO_DATES: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


class Figure(Drawing):
    """A matplotlib figure; ``facts`` fills the fields of its caption."""

    def __init__(self, width: float, height: float) -> None:
        """Width and height are in inches."""
        # Small letters are narrower at another resolution, by up to a twentieth.
        super().__init__(figsize=(width, height), dpi=DPI)
        self.facts: dict[str, Any] = {}

    def panels(self, count: int, across: int, **options: Any) -> Any:
        """Axes in rows of ``across``, as a matrix; only the first ``count`` are visible."""
        grid = self.subplots(ceil(count / across), across, squeeze=False, **options)
        for axes in grid.flat[count:]:
            axes.set_visible(False)
        return grid

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        with look():
            return draw(self, "png")


def look() -> Any:
    """The settings with which figures are made and written, whatever the user's own are."""
    settings: Any = {**mpl.rcParamsDefault, **RC, "backend": "agg"}
    return mpl.rc_context(settings)


def draw(figure: Figure, suffix: str) -> bytes:
    """A figure's bytes in one format; it grows where a label would be cut at its edge."""
    buffer = BytesIO()
    page = Bbox.from_bounds(0, 0, *figure.get_size_inches())
    whole = Bbox.union([page, figure.get_tightbbox().padded(MARGIN)])
    figure.savefig(buffer, format=suffix, dpi=DPI, bbox_inches=whole, metadata=_NO_DATES[suffix])
    return buffer.getvalue()


def inline_svg(svg: str, name: str, title: str) -> str:
    """An SVG file as part of a page: its own ids, no header; letters have one size in all figures."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r'(<svg[^>]*?) width="([\d.]+)pt"', _at_most, svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _at_most(found: re.Match[str]) -> str:
    """An SVG's own width as its largest width on the page."""
    return f'{found[1]} style="max-width: {float(found[2]) / (72 * FULL) * ON_PAGE:.1f}rem"'
