"""The slides' exhibits, built from a real run of seconds: four tasks of digits, and merges of three plans."""

import csv
import io
import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import yaml
from runs import finish
from test_exhibits import PLACES
from worlds import as_benchmark

from remerge import config as configuration
from remerge import exhibits
from remerge.exhibits.slides.depth import stacks
from remerge.plans.negation import KEPT
from remerge.report.figure import Figure
from remerge.report.make import write
from remerge.report.page import _others
from remerge.report.run import Run
from remerge.report.table import Table
from remerge.stages import exports

ROOT = Path(__file__).parents[2]
TASKS = ("digit", "inverted", "parity", "inverted_parity")
SCALES = [0.2, 0.6, 1.0]
LEARNED = "adamerging@level=layer"
TUNED = "task_arithmetic@tuned"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be read only."""
    folder = tmp_path_factory.mktemp("slides")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        whole = configuration.load(ROOT / "config/demo-slides.yaml").model_dump(mode="json")
        sizes = {"train": 96, "validation": 40, "test": 60}
        raw = {
            "benchmark": "small",
            "paper": "slides",
            "base": whole["base"],
            "tasks": {task: whole["tasks"][task] | {"sizes": sizes} for task in TASKS},
            "finetune": {"learning_rate": 3e-3, "batch_size": 16, "steps": 12, "multitask": False},
            "merge": {
                "variants": [
                    "average",
                    *({"task_arithmetic": {"scale": scale}} for scale in SCALES),
                    {"task_arithmetic": {"scale": {"tune": [0.4, 0.8]}}},
                    *({"ties": {"scale": scale}} for scale in (0.5, 1.0)),
                    {"adamerging": {"level": "layer"}},
                ],
                "defaults": {"adamerging": {"inputs": 8}},
            },
            "plans": {
                "subsets": {"sizes": [4]},
                "negation": {"variants": [TUNED, *(f"task_arithmetic@scale={scale}" for scale in SCALES)]},
                "analogy": dict(zip("abcd", TASKS, strict=True)),
            },
        }
        config = finish(raw)
    return folder / config.folder


def build(results: Path, name: str) -> Any:
    return exhibits.known()[name].build(Run(results))


def caption(results: Path, name: str) -> str:
    run, exhibit = Run(results), exhibits.known()[name]
    return exhibit.text({**run.facts, **exhibit.build(run).facts})[1]


def lines(results: Path, variant: str, group: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (results / f"merges/{variant}/{group}.jsonl").read_text().splitlines()
    ]


def base_on(results: Path, task: str) -> float:
    return float(json.loads((results / "scores/base.json").read_text())["scores"][task]["value"])


def drawn(axes: Any, first: float) -> dict[float, float]:
    """The one curve that starts at λ = 0 with a value and has the scales' points."""
    (found,) = {
        tuple(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.lines
        if line.get_marker() == "s" and len(line.get_xdata()) > 3
    }
    assert found[0] == pytest.approx((0, first))
    return dict(found)


def ring(axes: Any) -> tuple[float, float]:
    (line,) = [line for line in axes.lines if line.get_markersize() == 10.5]
    return float(line.get_xdata()[0]), float(line.get_ydata()[0])


def test_which_there_are(results: Path) -> None:
    found = exhibits.of(Run(results).config)
    mine = [name for name, exhibit in found.items() if exhibit.source]
    figures = ["slides_addition", "slides_alignment", "slides_analogy", "slides_depth", "slides_negation"]
    assert mine == [*figures, "slides_table"]
    assert not {"negation", "analogy"} & {*found}


def test_addition_is_the_mean_score_of_the_merge_of_all_tasks(results: Path) -> None:
    figure = build(results, "slides_addition")
    (axes,) = figure.axes
    curve = drawn(axes, 100 * fmean(base_on(results, task) for task in TASKS))
    chosen = lines(results, TUNED, "4")[0]
    assert [*curve] == sorted({0.0, *SCALES, chosen["params"]["scale"]})
    for scale in SCALES:
        (merge,) = lines(results, f"task_arithmetic@scale={scale}", "4")
        assert curve[scale] == pytest.approx(100 * fmean(s["value"] for s in merge["scores"].values()))
    assert ring(axes) == (chosen["params"]["scale"], curve[chosen["params"]["scale"]])
    (average,) = lines(results, "average", "4")
    level = 100 * fmean(score["value"] for score in average["scores"].values())
    assert level in [pytest.approx(line.get_ydata()[0]) for line in axes.lines if len(line.get_ydata()) == 2]
    names = {text.get_text() for text in axes.texts}
    assert names == {"Task arithmetic", "TIES", "Model averaging", "Unmerged base"}


def test_the_page_says_how_many_merges_are_of_which_plan(results: Path) -> None:
    made = {plan: len([*results.glob(f"merges/*/{plan}.jsonl")]) for plan in ("negation", "analogy")}
    count = made["negation"] * len(TASKS)
    assert _others(Run(results)) == f", and {made['analogy']} of analogy, and {count} of negation"


def test_negation_is_relative_to_the_base_and_shades_the_controls(results: Path) -> None:
    figure = build(results, "slides_negation")
    choice = lines(results, TUNED, "negation")[0]["params"]["scale"]
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [f"− {task}" for task in TASKS]
    for axes, target in zip(figure.axes, TASKS, strict=False):
        curve = drawn(axes, 100)
        assert ring(axes) == (choice, curve[choice])
        shaded = axes.collections[0].get_paths()[0].vertices
        for scale in SCALES:
            (merge,) = [
                m
                for m in lines(results, f"task_arithmetic@scale={scale}", "negation")
                if m["tasks"] == [target]
            ]
            assert curve[scale] == pytest.approx(
                100 * merge["scores"][target]["value"] / base_on(results, target)
            )
            controls = [100 * merge["others"][t]["value"] / base_on(results, t) for t in TASKS if t != target]
            at = shaded[np.isclose(shaded[:, 0], scale), 1]
            assert (at.min(), at.max()) == pytest.approx((min(controls), max(controls)))
        assert 100 * KEPT in [line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 2]
    before = 100 * fmean(base_on(results, task) for task in TASKS)
    after = 100 * fmean(
        m["scores"][t]["value"] for m in lines(results, TUNED, "negation") for t in m["tasks"]
    )
    told = figure.facts["choice"]
    assert f"λ = {choice:g}," in told and f"tasks go from {before:.1f}% to {after:.1f}%" in told
    kept = [
        all(score["value"] >= KEPT * base_on(results, task) for task, score in line["others"].items())
        for line in lines(results, TUNED, "negation")
    ]
    assert f"on test, every control keeps it for {sum(kept)} of the 4 tasks" in told


def test_the_analogy_is_judged_on_the_fourth_task(results: Path) -> None:
    figure = build(results, "slides_analogy")
    assert figure.facts == dict(zip("abcd", TASKS, strict=True))
    (axes,) = figure.axes
    curve = drawn(axes, 100 * base_on(results, "inverted_parity"))
    for scale in SCALES:
        (merge,) = lines(results, f"task_arithmetic@scale={scale}", "analogy")
        assert merge["signs"] == {"digit": -1, "inverted": 1, "parity": 1}
        assert curve[scale] == pytest.approx(100 * merge["others"]["inverted_parity"]["value"])


def test_coefficients_stand_at_their_layers(results: Path) -> None:
    figure = build(results, "slides_depth")
    (axes,) = figure.axes
    (merge,) = lines(results, LEARNED, "4")
    layers = [f"encoder.layers.{number}" for number in range(4)]
    of_task = [line for line in axes.lines if len(line.get_xdata()) == 4 and line.get_linewidth() == 0.8]
    for line, task in zip(of_task, TASKS, strict=True):
        assert list(line.get_ydata()) == pytest.approx(
            [merge["coefficients"][task][layer] for layer in layers]
        )
    (mean,) = [line for line in axes.lines if len(line.get_xdata()) == 4 and line.get_linewidth() == 2.2]
    expected = [fmean(merge["coefficients"][task][layer] for task in TASKS) for layer in layers]
    assert list(mean.get_ydata()) == pytest.approx(expected)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["o", "0", "1", "2", "3"]


def test_an_encoder_and_a_decoder_are_stacks_of_their_own_in_the_order_of_numbers() -> None:
    layers = ["decoder.block.0", "encoder.block.10", "encoder.block.2", "other"]
    assert stacks(layers) == [["other"], ["decoder.block.0"], ["encoder.block.2", "encoder.block.10"]]


def test_the_table_tells_where_each_scale_is_from(results: Path) -> None:
    table = build(results, "slides_table")
    assert isinstance(table, Table)
    rows = {(r["method"], r["scale"]): float(r["ours"]) for r in csv.DictReader(io.StringIO(table.csv()))}
    chosen = lines(results, TUNED, "4")[0]
    searched = f"searched: {chosen['params']['scale']:g}"
    expected = {
        ("Unmerged base", "–"): fmean(base_on(results, task) for task in TASKS),
        ("Non-linear fine-tuning", "1.0"): _mean(lines(results, "task_arithmetic@scale=1.0", "4")[0]),
        ("Non-linear fine-tuning", searched): _mean(chosen),
        ("TIES", "1.0"): _mean(lines(results, "ties@scale=1.0", "4")[0]),
        ("AdaMerging (LL)", "trained"): _mean(lines(results, LEARNED, "4")[0]),
    }
    assert rows == pytest.approx({key: 100 * value for key, value in expected.items()}, abs=1e-3)
    best = max(list(rows.values())[1:])
    assert {list(rows.values())[place] for place, _ in table.bold} == {best}


def test_several_models_and_recipes_stand_beside_each_other(results: Path, tmp_path: Path) -> None:
    runs = [Run(results)]
    for recipe, more in (("linearised", "-linearised"), ("standard", "")):
        real = Path(shutil.copytree(results, tmp_path / recipe))
        raw = yaml.safe_load((real / "config.yaml").read_text())
        raw["finetune"]["recipe"], raw["base"]["source"] = recipe, "openai/clip-vit-base-patch16"
        (real / "config.yaml").write_text(
            yaml.safe_dump(raw | {"benchmark": f"slides-vit-b16{more}"}, sort_keys=False)
        )
        as_benchmark(real, f"slides-vit-b16{more}")
        runs.append(Run(real))
    table = exhibits.known()["slides_models"].build(runs)
    rows = {(r["method"], r["scale"]): r for r in table.frame.to_dict("records")}
    for name in (
        "TIES",
        "AdaMerging (LL)",
    ):  # a method on other experts has a row of its own, without a paper's
        (ours,) = [row for (method, _), row in rows.items() if method == f"Linearised fine-tuning, {name}"]
        assert np.isnan(ours["clip-vit-base-patch16_paper"]) and np.isnan(ours["miniature-clip"])
    paper = {key: row["clip-vit-base-patch16_paper"] for key, row in rows.items()}
    assert {key: value for key, value in paper.items() if value == value} == {
        ("Unmerged base", "–"): 54.5,
        ("Non-linear fine-tuning", "1.0"): 19.1,
        ("Non-linear fine-tuning", "searched"): 75.5,
        ("TIES", "1.0"): 78.6,
        ("AdaMerging (LL)", "trained"): 84.9,
        ("Linearised fine-tuning", "1.0"): 58.2,
        ("Linearised fine-tuning", "searched"): 78.7,
    }
    one, two = rows["Non-linear fine-tuning", "1.0"], rows["Linearised fine-tuning", "1.0"]
    assert one["miniature-clip"] == one["clip-vit-base-patch16"] == two["clip-vit-base-patch16"]
    assert table.frame["miniature-clip"].isna().sum() == 4


def test_a_second_run_of_the_same_models_has_columns_of_its_own(results: Path, tmp_path: Path) -> None:
    """Its numbers were left out, without a word."""
    again = Path(shutil.copytree(results, tmp_path / "again"))
    raw = yaml.safe_load((again / "config.yaml").read_text())
    (again / "config.yaml").write_text(yaml.safe_dump(raw | {"benchmark": "again"}, sort_keys=False))
    as_benchmark(again, "again")
    table = exhibits.known()["slides_models"].build([Run(results), Run(again)])
    groups = [column.group for column in table.columns if column.head == "ours"]
    assert groups == ["miniature-clip", "miniature-clip, again"]
    one, two = (table.frame[group].tolist() for group in groups)
    assert one == two and not any(np.isnan(one))


def test_a_run_on_other_tests_has_columns_of_its_own(results: Path, tmp_path: Path) -> None:
    """Its linearised experts stood in the column of the others, above whose base was not its own."""
    other = Path(shutil.copytree(results, tmp_path / "other"))
    raw = yaml.safe_load((other / "config.yaml").read_text())
    raw["finetune"]["recipe"], raw["benchmark"] = "linearised", "other"
    (other / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    as_benchmark(other, "other")
    for n, columns in ((None, 1), (7, 2)):
        base = json.loads((other / "scores/base.json").read_text())
        for score in base["scores"].values():
            score["n"] = n or score["n"]
        (other / "scores/base.json").write_text(json.dumps(base))
        table = exhibits.known()["slides_models"].build([Run(results), Run(other)])
        assert len([column for column in table.columns if column.head == "ours"]) == columns


def test_an_analogy_without_a_scale_is_no_curve(results: Path) -> None:
    config = Run(results).config
    average = [variant for variant in config.merge.variants if variant.method == "average"]
    alone = config.model_copy(update={"merge": config.merge.model_copy(update={"variants": average})})
    assert "slides_analogy" in exhibits.of(config) and "slides_analogy" not in exhibits.of(alone)
    assert "analogy" not in exhibits.of(alone.model_copy(update={"paper": None}))


@pytest.mark.parametrize("name", ["slides_addition", "slides_negation", "slides_analogy", "slides_depth"])
def test_figures_are_drawn_from_what_they_say_that_they_read(
    results: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(results / "config.yaml", tmp_path)
    for place in (results / place for what in exhibits.known()[name].reads for place in PLACES[what]):
        (tmp_path / place.name).symlink_to(place)
    assert isinstance(build(tmp_path, name), Figure)
    write(tmp_path, name, "figure")
    assert b"</svg>" in (tmp_path / f"figures/{name}.svg").read_bytes()


def test_a_benchmark_of_another_paper_has_the_figures_of_its_plans(results: Path) -> None:
    config = Run(results).config
    for paper in (None, "drm"):
        found = exhibits.of(config.model_copy(update={"paper": paper}))
        assert {"negation", "analogy"} < {*found} and "slides_table" not in found


def _mean(merge: dict[str, Any]) -> float:
    return fmean(score["value"] for score in merge["scores"].values())


def test_the_only_merge_is_called_so(results: Path) -> None:
    assert caption(results, "best").startswith("Of the methods that make the only merge, ")
    assert caption(results, "comparisons").startswith("Mean ANP over the only merge, ")


def test_the_merit_of_every_plan_is_explained(results: Path) -> None:
    said = caption(results, "selection")
    assert "Merit of negation: minus the task's score, if every control keeps 95%" in said
    assert "Merit of analogy: the score on D" in said and "Merit of subsets: the ANP: 100 times" in said


def test_the_card_of_a_vision_tower_says_where_its_classes_are_from(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(results.parents[1], tmp_path / "copy"))
    config = configuration.load(Path(*results.parts[-2:], "config.yaml"))
    subset = "+".join(sorted(TASKS))
    exports.run(config, "average", subset)
    card = (config.folder / "exports/average" / subset / "README.md").read_text()
    assert "This is the vision tower alone." in card
