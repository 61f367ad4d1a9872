import shutil
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from remerge import exhibits
from remerge.errors import UserError
from remerge.exhibits._lines import spread
from remerge.report.figure import Figure
from remerge.report.make import write
from remerge.report.run import Run

KINDS: tuple[Literal["kl", "js"], ...] = ("kl", "js")


def build(results: Path, name: str) -> Figure:
    figure = exhibits.known()[name].build(Run(results))
    assert isinstance(figure, Figure)
    return figure


@pytest.mark.parametrize("name", ["divmerge_figure2", "divmerge_figure5"])
def test_written_in_three_formats_the_same_twice(world: Path, tmp_path: Path, name: str) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    write(results, name, "figure")
    files = {f: (results / f"figures/{name}.{f}").read_bytes() for f in ("pdf", "svg", "png")}
    write(results, name, "figure")
    assert files == {f: (results / f"figures/{name}.{f}").read_bytes() for f in files}
    assert files["pdf"].startswith(b"%PDF") and b"</svg>" in files["svg"]
    pixels = np.asarray(Image.open(results / f"figures/{name}.png").convert("L"))
    assert pixels.min() < 60 and pixels.max() == 255


def test_every_method_has_a_line_and_a_name(world: Path) -> None:
    axes = build(world, "divmerge_figure2").axes[0]
    names = [text.get_text() for text in axes.texts]
    assert len(names) == 12 and {"Unmerged base", "Multitask", "DivMerge JS (LL)"} <= set(names)
    curves = [line for line in axes.lines if list(line.get_xdata()) == [2, 3, 4]]  # type: ignore[arg-type]
    assert len(curves) == 12
    assert len(axes.collections) == 10  # a band for each method


def test_published_lines_are_dashed(glue: Path) -> None:
    axes = build(glue, "divmerge_figure2").axes[0]
    dashed = [line for line in axes.lines if line.get_linewidth() == 0.9]
    assert {line.get_linestyle() for line in dashed} == {"--"}
    assert len(dashed) == 9
    assert sorted(line.get_ydata()[-1] for line in dashed)[-2:] == [92.53, 93.06]  # type: ignore[index]


def test_heat_map_cells_hold_the_records(world: Path) -> None:
    run = Run(world)
    figure = build(world, "divmerge_figure5")
    for axes, kind in zip(figure.axes, KINDS, strict=True):
        printed = [text.get_text() for text in axes.texts]
        assert printed == [f"{v:.2f}" for v in run.divergence(kind).to_numpy().ravel()]


def test_spread_keeps_names_apart_and_in_order() -> None:
    wanted = [0.99, 0.98, 0.97, 0.5, 0.495, 0.2, 0.0, -0.3]
    places = spread(wanted, 0.05)
    assert all(a - b >= 0.05 - 1e-9 for a, b in pairwise(places))
    assert min(places) >= 0 and max(places) <= 1
    assert spread([0.9, 0.5, 0.1], 0.05) == [0.9, 0.5, 0.1]


def test_an_unknown_figure(world: Path) -> None:
    with pytest.raises(UserError, match="unknown figure 'x'"):
        write(world, "x", "figure")
