import json
import shutil
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml
from matplotlib.collections import LineCollection
from PIL import Image
from reading import drawing
from scipy import stats
from worlds import as_variant, make_world

from remerge import exhibits
from remerge.errors import UserError
from remerge.exhibits._heat import heat
from remerge.exhibits._lines import spread
from remerge.exhibits._scales import draw as draw_curve
from remerge.report.figure import Figure, draw, look
from remerge.report.make import printed, write
from remerge.report.run import Run
from remerge.report.style import style
from remerge.variants import name_of

SPACES = ("original", "horizontal", "vertical", "unpruned", "horizontal_back", "vertical_back")
KINDS: tuple[Literal["kl", "js"], ...] = ("kl", "js")


@pytest.mark.parametrize("name", [f"divmerge_figure{number}" for number in (2, 3, 5, 7, 8)])
def test_written_in_three_formats_the_same_twice(world: Path, tmp_path: Path, name: str) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    write(results, name, "figure")
    files = {f: (results / f"figures/{name}.{f}").read_bytes() for f in ("pdf", "svg", "png")}
    write(results, name, "figure")
    assert files == {f: (results / f"figures/{name}.{f}").read_bytes() for f in files}
    assert files["pdf"].startswith(b"%PDF") and b"</svg>" in files["svg"]
    pixels = np.asarray(Image.open(results / f"figures/{name}.png").convert("L"))
    assert pixels.min() < 60 and pixels.max() == 255
    assert edges(pixels) == {255}


def test_a_curve_over_scales_of_both_signs_goes_from_the_left_to_the_right() -> None:
    axes = Figure(2, 2).subplots()
    draw_curve(axes, {0.0: 50.0, -0.5: 40.0, 0.5: 60.0}, style("ties"), None)
    (line,) = axes.lines
    assert [*zip(*line.get_data(), strict=True)] == [(-0.5, 40.0), (0.0, 50.0), (0.5, 60.0)]


@pytest.mark.parametrize("name", ["divmerge_figure7", "divmerge_figure4"])
def test_long_names_of_tasks_cover_nothing(tmp_path: Path, name: str) -> None:
    """Titles lay on each other, and a legend in one row made the panels a third of the figure."""
    tasks = [f"offensive_in_{place}" for place in ("forums", "letters", "news", "pages", "posts")]
    results = make_world(tmp_path / "demo", tasks=tasks)
    raw = yaml.safe_load((results / "config.yaml").read_text())
    variant = name_of("divmerge", params := {"level": "task", "divergence": "js", "inputs": 50})
    raw["merge"]["variants"].append({"name": variant, "method": "divmerge", "params": params})
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    as_variant(results, "divmerge@divergence=js,level=task", variant)
    with look():
        figure = drawing(results, name)
        for axes in [axes for axes in figure.axes if axes.get_visible()]:
            assert axes.title.get_window_extent().width <= axes.get_window_extent().width
        assert figure.get_tightbbox().width < 1.06 * figure.get_size_inches()[0]


def test_a_label_beyond_the_edge_is_not_cut() -> None:
    with look():
        figure = Figure(2, 2)
        figure.subplots_adjust(left=0, right=1)
        figure.subplots().set_ylabel("of the task that is named second, and more")
        pixels = np.asarray(Image.open(BytesIO(draw(figure, "png"))).convert("L"))
    assert edges(pixels) == {255} and pixels.shape[1] > 400


@pytest.mark.parametrize("left", [0.01, 0.02, 0.04, 0.06, 0.08])
def test_a_name_that_just_fits_at_one_resolution_is_not_cut_at_another(left: float) -> None:
    with look():
        figure = Figure(3, 1)
        figure.text(left / 3 + 1.49 / 3, 0.5, "DivMerge JS (TL, over TSV-M)", ha="right", fontsize=7.5)
        assert edges(np.asarray(Image.open(BytesIO(draw(figure, "png"))).convert("L"))) == {255}


def edges(pixels: Any) -> set[int]:
    """What lies at the border of an image, where ink is cut."""
    return {int(side.min()) for side in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])}


def test_every_method_has_a_line_and_a_name(world: Path) -> None:
    axes = drawing(world, "divmerge_figure2").axes[0]
    names = [text.get_text() for text in axes.texts]
    assert len(names) == 12 and {"Unmerged base", "Multitask", "DivMerge JS (LL)"} <= set(names)
    curves = [line for line in axes.lines if np.array_equal(np.round(line.get_xdata()), [2, 3, 4])]
    assert len([line for line in curves if line.get_linestyle() != "None"]) == 12
    bars = [bars.get_segments() for bars in axes.collections if isinstance(bars, LineCollection)]
    assert len(bars) == 10  # an interval for each method and size
    values = Run(world).anp_of("average", 3)
    low, high = bars[0][1][:, 1]
    assert (low + high) / 2 == pytest.approx(np.mean(values))
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 3) * stats.sem(values))
    assert len({bar[0][0, 0] for bar in bars}) == 10  # beside each other


def test_published_lines_are_dashed(glue: Path) -> None:
    axes = drawing(glue, "divmerge_figure2").axes[0]
    dashed = [line for line in axes.lines if line.get_linewidth() == 0.9]
    assert {line.get_linestyle() for line in dashed} == {"--"}
    assert len(dashed) == 9
    assert sorted(line.get_ydata()[-1] for line in dashed)[-2:] == [92.53, 93.06]  # type: ignore[index]


def test_heat_map_cells_hold_the_records(world: Path) -> None:
    run = Run(world)
    figure = drawing(world, "divmerge_figure5")
    for axes, kind in zip(figure.axes, KINDS, strict=True):
        printed = [text.get_text() for text in axes.texts]
        assert printed == [f"{v:.2f}" for v in run.divergence(kind).to_numpy().ravel()]


def test_cosines_are_of_the_record_and_stand_in_the_caption(world: Path) -> None:
    figure, cosines = drawing(world, "divmerge_figure6"), np.array(Run(world).weights.cosines)
    assert [text.get_text() for text in figure.axes[0].texts] == [
        f"{v:z.2f}".replace("-", "−") for v in cosines.ravel()
    ]
    apart = cosines[np.triu_indices(4, 1)]
    assert figure.facts["most"] == f"{apart.max():.2f}"
    assert figure.facts["least"] == f"{apart.min():.2f}".replace("-", "−")


def test_bars_of_sign_agreement_are_shares_of_positions_with_a_sign(drm: Path) -> None:
    figure, signs = drawing(drm, "drm_figure5"), Run(drm).weights.signs
    for axes, space in zip(figure.axes, SPACES, strict=True):
        agreements = [
            max(p, q) / (p + q)
            for (p, q), n in np.ndenumerate(np.array(getattr(signs, space)))
            if p + q
            for _ in range(n)
        ]
        expected, _ = np.histogram(agreements, bins=[0.5, 0.6 - 1e-9, 0.7, 0.8 - 1e-9, 0.9, 1])
        heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
        assert heights == pytest.approx(100 * expected / len(agreements))
        assert f"mean {100 * np.mean(agreements):.1f}%" in axes.get_title()


def test_bands_of_what_is_dropped(drm: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drm, tmp_path / "drm"))
    record = json.loads((results / "weights.json").read_text())
    record["dropped"]["plain"][0][3] = 0.99
    (results / "weights.json").write_text(json.dumps(record))
    figure = drawing(results, "drm_figure3")
    for axes, key in zip(figure.axes, ("plain", "renormalised"), strict=True):
        shares = 100 * np.array(record["dropped"][key])
        assert list(axes.lines[0].get_ydata()) == pytest.approx(list(shares.mean(axis=0)))  # type: ignore[arg-type]
        assert figure.facts[key] == (shares > 95).sum()
    assert figure.facts["plain"] > 0 == figure.facts["renormalised"]
    assert figure.facts["vectors"] == 72


def test_weights_of_other_tasks_are_refused(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    record = json.loads((results / "weights.json").read_text())
    (results / "weights.json").write_text(json.dumps(record | {"experts": ["cola", "rte"]}))
    with pytest.raises(UserError, match=r"weights\.json belongs to other tasks: delete it and run again"):
        drawing(results, "divmerge_figure6")


def test_spread_keeps_names_apart_and_in_order() -> None:
    wanted = [0.99, 0.98, 0.97, 0.5, 0.495, 0.2, 0.0, -0.3]
    places = spread(wanted, 0.05)
    assert all(a - b >= 0.05 - 1e-9 for a, b in pairwise(places))
    assert min(places) >= 0 and max(places) <= 1
    assert spread([0.9, 0.5, 0.1], 0.05) == [0.9, 0.5, 0.1]


def test_an_unknown_figure(world: Path) -> None:
    with pytest.raises(UserError, match="unknown figure 'x'"):
        write(world, "x", "figure")


@pytest.mark.parametrize(
    ("names", "turned"), [(["A", "B", "C"], 0), (["IMDB", "SQuAD", "CommonGen"] * 2, 30)]
)
def test_names_of_columns_that_are_wider_than_their_cells_are_turned(names: list[str], turned: int) -> None:
    with look():
        figure = Figure(3.4, 3.1)
        axes = figure.subplots()
        heat(axes, np.eye(len(names)) - 0.02, names, "")
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {turned}
    assert "−0.02" in {text.get_text() for text in axes.texts}


def test_a_figure_speaks_of_the_multitask_model_only_if_there_is_one(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    for trained in (True, False):
        raw["finetune"]["multitask"] = trained
        (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        text = printed(exhibits.known()["divmerge_figure2"], Run(results))["html"].decode()
        assert ("dash-dotted: the model fine-tuned" in text) == trained
        assert "Dotted: the unmerged base" in text and "on the same subsets" in text
