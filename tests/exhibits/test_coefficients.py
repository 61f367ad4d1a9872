"""Figures of learned coefficients: along their training, in the plane of pairs, against inputs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from reading import drawing
from worlds import as_variant

from remerge import exhibits
from remerge.report.run import Run
from remerge.report.style import style
from remerge.variants import name_of

NAMED = ("cola+sst2", "mrpc+rte", "cola+rte", "mrpc+sst2")


def test_anp_along_the_training_is_the_mean_of_the_pairs(world: Path) -> None:
    figure = drawing(world, "divmerge_figure3")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["AdaMerging", "DivMerge KL", "DivMerge JS"]
    for axes, place in zip(figure.axes, (6, 9), strict=True):
        assert len(axes.lines) == 3 + 6  # and each pair, by the paper's own method
        found = [merge.course for merge in Run(world).merges(Run(world).variants[place].name, 2)]
        thick = axes.lines[-1]
        assert list(thick.get_xdata()) == [0, 5, 20 + place]  # type: ignore[arg-type]
        expected = [np.mean([course.anp[k] for course in found if course]) for k in range(3)]
        assert list(thick.get_ydata()) == pytest.approx(expected)  # type: ignore[arg-type]
        assert expected[0] < expected[1] < expected[2]


def test_pairs_with_fewer_steps_stay_at_their_last_anp(world: Path, tmp_path: Path) -> None:
    """The mean of all was drawn at the steps of the first; fewer points than another's were a traceback."""
    assert drawing(world, "divmerge_figure3").facts["uneven"] == ""
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    name = "divmerge@divergence=js,level=task"
    path = results / f"merges/{name}/2.jsonl"
    first, *others = map(json.loads, path.read_text().splitlines())
    last = others[0]["course"]["scored"][-1]
    first["course"] |= {"scored": [0, 10], "anp": [50.0, 60.0]}
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, *others)))
    figure = drawing(results, "divmerge_figure3")
    line = figure.axes[0].lines[-1]
    assert list(line.get_xdata()) == [0, 5, 10, last]  # type: ignore[arg-type]
    anp = [[50.0, 55.0, 60.0, 60.0]]
    for course in (other["course"] for other in others):
        zero, five, end = course["anp"]
        anp.append([zero, five, five + (end - five) * 5 / (last - 5), end])
    assert list(line.get_ydata()) == pytest.approx(list(np.mean(anp, axis=0)))  # type: ignore[arg-type]
    assert "those that have ended keep their last ANP" in figure.facts["uneven"]


def test_the_course_of_settings_of_ones_own_is_no_figure_of_the_paper(world: Path) -> None:
    """All its lines were left out, and the panels were empty."""
    config = Run(world).config
    known = exhibits.known()["divmerge_figure3"]
    assert known.applies(config)
    variants = [{"divmerge": {"level": "task", "epochs": 7}}, "average"]
    merge = type(config.merge).model_validate({"variants": variants})
    assert not known.applies(config.model_copy(update={"merge": merge}))


def test_coefficients_have_a_panel_a_task_and_a_line_a_partner(world: Path) -> None:
    axes = drawing(world, "divmerge_figure7").axes
    assert [panel.get_title() for panel in axes] == ["CoLA", "SST-2", "MRPC", "RTE"]
    assert all(len(panel.lines) == 3 for panel in axes)
    looks = [(line.get_color(), str(line.get_linestyle())) for panel in axes for line in panel.lines]
    assert len(set(looks)) == 4
    merge = Run(world).merges("divmerge@divergence=js,level=task", 2)[0]
    assert merge.course and merge.tasks == ["cola", "mrpc"]
    assert list(axes[2].lines[0].get_ydata()) == merge.course.coefficients["mrpc"]  # type: ignore[arg-type]


def test_pairs_are_points_of_their_last_coefficients_with_a_name_each(glue: Path) -> None:
    axes = drawing(glue, "divmerge_figure8").axes[0]
    (dots,) = [line for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 21]
    names = {text.get_text(): text for text in axes.texts}
    assert len(names) == 21 and "SST-2 + MRPC" in names
    merges = Run(glue).merges("divmerge@divergence=js,level=task", 2)
    place = [merge.case for merge in merges].index("mrpc+sst2")
    course = merges[place].course
    assert course
    ends = [course.coefficients[task][-1] for task in ("sst2", "mrpc")]  # type: ignore[index]
    assert [dots.get_xdata()[place], dots.get_ydata()[place]] == ends  # type: ignore[index]


def test_anp_against_inputs_has_a_line_a_method_over_its_numbers_of_inputs(
    world: Path, tmp_path: Path
) -> None:
    """The layer-level variants of the world, told to differ in their inputs alone."""
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    config = yaml.safe_load((results / "config.yaml").read_text())
    kept = config["merge"]["variants"][:1]
    for number, old in (
        (5, "divmerge@divergence=kl,level=layer"),
        (40, "divmerge@divergence=js,level=layer"),
    ):
        params = {"divergence": "js", "inputs": number, "level": "layer"}
        kept.append({"name": name_of("divmerge", params), "method": "divmerge", "params": params})
        as_variant(results, old, name_of("divmerge", params))
        path = results / "merges" / name_of("divmerge", params) / "2.jsonl"
        lines = path.read_text().splitlines()
        # The first pair has three inputs, whatever is asked for.
        inputs = [3 if '"case": "cola+rte"' in line else number for line in lines]
        some = zip(lines, inputs, strict=True)
        path.write_text("\n".join(line.replace(f'"inputs": {number}', f'"inputs": {n}') for line, n in some))
    config["merge"]["variants"] = kept
    config["plans"] = {"subsets": {"only": ["cola+sst2", "mrpc+rte", "cola+rte", "mrpc+sst2"]}}
    for path in results.glob("merges/*/2.jsonl"):
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["case"] in NAMED]
        path.write_text("\n".join(lines))
    (results / "config.yaml").write_text(yaml.safe_dump(config))
    assert "divmerge_figure4" in exhibits.of(Run(results).config)
    assert "divmerge_figure4" not in exhibits.of(Run(world).config)
    figure = drawing(results, "divmerge_figure4")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Model averaging",
        "DivMerge JS (LL)",
    ]
    average, learned = figure.axes[0].lines
    assert figure.axes[0].get_title() == "CoLA + SST-2"
    assert list(learned.get_xdata()) == [5, 40]  # type: ignore[arg-type]
    frame = Run(results).merged.query("subset == @pair", local_dict={"pair": ("cola", "sst2")})
    assert [*average.get_ydata()[:1], *learned.get_ydata()] == frame["anp"].tolist()  # type: ignore[index,misc]
    settings = exhibits.known()["divmerge_table9"].build(Run(results)).frame
    taken = settings[(settings["of"] == "DivMerge (LL)") & (settings["setting"] == "inputs of a task")]
    assert taken["ours"].tolist() == ["5, 3, 40"]
    (few,) = [axes for axes in figure.axes if axes.get_title() == "CoLA + RTE"]
    assert list(few.lines[1].get_xdata()) == [3]  # type: ignore[arg-type]


def test_anp_against_the_share_of_stand_ins_starts_at_a_task_s_own_inputs(
    world: Path, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    config = yaml.safe_load((results / "config.yaml").read_text())
    kept = config["merge"]["variants"][:1]
    for old, share, kind in (
        ("divmerge@divergence=js,level=layer", 0.0, "shuffled"),
        ("divmerge@divergence=kl,level=layer", 0.5, "shuffled"),
        ("adamerging@level=layer", 1.0, "other"),
    ):
        given = {"replaced": share, "stand_ins": kind} if share else {}
        params = {"divergence": "js", "level": "layer", **given}
        kept.append({"name": name_of("divmerge", params), "method": "divmerge", "params": params})
        if share:
            as_variant(results, old, name_of("divmerge", params))
        path = results / "merges" / name_of("divmerge", params) / "2.jsonl"
        used = f'"replaced": {share}, "stand_ins": "{kind}", "inputs": 200'
        path.write_text(path.read_text().replace('"inputs": 200', used))
    config["merge"] = {"variants": kept, "defaults": {"divmerge": {"epochs": 4}}}
    config["plans"] = {"subsets": {"sizes": [2]}}
    (results / "config.yaml").write_text(yaml.safe_dump(config))
    run = Run(results)
    assert "approximated" in exhibits.of(run.config) and "approximated" not in exhibits.of(Run(world).config)
    figure = drawing(results, "approximated")
    names = ["Model averaging", "DivMerge JS (LL), words shuffled", "DivMerge JS (LL), another task's"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    average, own, half, whole = (run.mean_anp(variant.name, 2) for variant in run.variants)
    assert [*map(list, (line.get_ydata() for line in figure.axes[0].lines))] == [  # type: ignore[call-overload]
        [average, average],
        [own, half],
        [own, whole],
    ]
    assert list(figure.axes[0].lines[1].get_xdata()) == [0.0, 50.0]  # type: ignore[arg-type]
    # As in every other figure, whatever the configuration gives all of its variants.
    looks = [style(variant.name) for variant in run.variants[:2]]
    assert [line.get_color() for line in figure.axes[0].lines[:2]] == [look.colour for look in looks]
