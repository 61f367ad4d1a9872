"""KnOTS's questions and DivMerge's Remark 3, from two real runs of seconds: full experts, and LoRA ones."""

import json
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import finish
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, CLIPVisionModel

from remerge import config as configuration
from remerge import exhibits
from remerge.config import Config
from remerge.exhibits.slides.alignment import KINDS
from remerge.report.make import write
from remerge.report.run import Run
from remerge.report.table import Table
from remerge.stages._workspace import Workspace

ROOT = Path(__file__).parents[2]
TASKS = ("digit", "inverted", "parity")
LORA = {"rank": 2, "alpha": 4, "targets": ["q_proj", "k_proj", "v_proj", "out_proj"]}
OVER = {over: f"adamerging@level=task,over={over}" for over in ("ties", "tsv_m")}


def made(benchmark: str, lora: dict[str, Any] | None) -> Config:
    """A finished run, in the working directory."""
    whole = configuration.load(ROOT / "config/demo-slides.yaml").model_dump(mode="json")
    sizes = {"train": 64, "validation": 12, "test": 40}
    recipe = {"learning_rate": 3e-3, "batch_size": 16, "steps": 10, "multitask": False, "lora": lora}
    learned = [{"adamerging": {"level": "task"} | more} for more in ({}, {"over": "ties"}, {"over": "tsv_m"})]
    raw = {
        "benchmark": benchmark,
        "paper": "slides",
        "base": whole["base"],
        "tasks": {task: whole["tasks"][task] | {"sizes": sizes} for task in TASKS},
        "finetune": recipe,
        "merge": {
            "variants": ["average", "task_arithmetic", "ties", "knots", *learned],
            "defaults": {"adamerging": {"inputs": 4, "epochs": 1}},
        },
    }
    return finish(raw)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The results of both, in the working directory, to be read only."""
    folder = tmp_path_factory.mktemp("knots")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        yield [made("full", None), made("lora", LORA)]


def lines(config: Config, variant: str, size: int) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (config.folder / f"merges/{variant}/{size}.jsonl").read_text().splitlines()
    ]


def by_hand(config: Config, tasks: list[str]) -> dict[str, float]:
    """The joint accuracies of the mean of some experts: a whole CLIP of transformers, given all captions."""
    space = Workspace(config)
    clip, words = (kind.from_pretrained(space.path("base")) for kind in (CLIPModel, AutoTokenizer))
    processor = CLIPImageProcessorPil.from_pretrained(space.path("base"))
    states = [CLIPVisionModel.from_pretrained(space.path(task)).state_dict() for task in tasks]
    mean = {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
    tower = CLIPVisionModel.from_pretrained(space.path(tasks[0]))
    tower.load_state_dict(mean)
    directions, labels = [], []
    found = {}
    with torch.no_grad():
        for task in tasks:
            asked = config.tasks[task]
            for answer in asked.answers:
                texts = [caption.replace("{answer}", answer) for caption in asked.captions]
                read = clip.get_text_features(**words(texts, padding=True, return_tensors="pt")).pooler_output
                center = (read / read.norm(dim=1, keepdim=True)).mean(dim=0)
                directions.append(center / center.norm())
                labels.append(answer)
        for task in tasks:
            examples = space.split(task, "test").examples
            images = [Image.open(BytesIO(e.prompt)).convert("RGB") for e in examples]
            pixels = processor(images, return_tensors="pt").pixel_values
            seen = clip.visual_projection(tower(pixels).pooler_output)
            best = (seen @ torch.stack(directions).T).argmax(dim=1).tolist()
            answers = config.tasks[task].answers
            right = [labels[b] == answers[e.answer[0]] for b, e in zip(best, examples, strict=True)]
            found[task] = fmean(right)
    return found


def test_joint_scores_are_those_of_a_whole_clip_that_is_given_all_labels(runs: Any) -> None:
    config, _ = runs
    for merge in [*lines(config, "average", 2), *lines(config, "average", 3)]:
        expected = by_hand(config, merge["tasks"])
        assert {task: score["joint"] for task, score in merge["scores"].items()} == expected
    assert any(score["joint"] < score["value"] for score in lines(config, "average", 3)[0]["scores"].values())


def test_a_score_follows_from_the_words_that_make_heads(runs: Any) -> None:
    config, _ = runs
    digit = config.tasks["digit"]
    digests = {
        Workspace(config.model_copy(update={"tasks": {**config.tasks, "digit": asked}}))
        .split("digit", "test")
        .digest
        for asked in (
            digit,
            digit.model_copy(update={"captions": ["a {answer}"]}),
            digit.model_copy(update={"answers": [*digit.answers[1:], "ten"]}),
        )
    }
    assert len(digests) == 3


def test_the_table_has_them_by_task_their_mean_and_that_of_all_inputs(runs: Any) -> None:
    config, _ = runs
    exhibit, run = exhibits.known()["joint"], Run(config.folder)
    table = exhibit.build(run)
    assert isinstance(table, Table)
    rows = {row["variant"]: row for row in table.frame.to_dict("records")}
    assert list(rows) == ["base", "experts", *(v.name for v in config.merge.variants)]
    (merge,) = lines(config, "knots", 3)
    joint = {task: 100 * score["joint"] for task, score in merge["scores"].items()}
    assert {task: rows["knots"][task] for task in TASKS} == pytest.approx(joint)
    assert rows["knots"]["mean"] == rows["knots"]["all"] == pytest.approx(fmean(joint.values()))
    own = [100 * score["value"] for score in merge["scores"].values()]
    assert rows["knots"]["own"] == pytest.approx(fmean(own))
    for task in TASKS:
        record = json.loads((config.folder / f"scores/{task}.json").read_text())["scores"]
        assert rows["experts"][task] == pytest.approx(100 * record[task]["joint"])
    assert table.facts == {"labels": 12}  # ten digits, whose names two tasks share, even and odd
    assert "12 labels" in exhibit.text(run.facts | dict(table.facts))[1]


@pytest.mark.parametrize("family", ["classifier", "causal_lm"])
def test_where_labels_cannot_be_compared_there_is_no_table(runs: Any, family: str) -> None:
    config, _ = runs
    other = config.model_copy(update={"base": config.base.model_copy(update={"family": family})})
    assert "joint" in exhibits.of(config) and "joint" not in exhibits.of(other)


def test_cka_by_depth_is_the_mean_over_pairs_and_weights(runs: Any) -> None:
    for config, adapters in zip(runs, (False, True), strict=True):
        record = json.loads((config.folder / "alignment.json").read_text())
        assert record["adapters"] is adapters
        figure = exhibits.known()["slides_alignment"].build(Run(config.folder))
        (axes,) = figure.axes
        for what, line in zip(KINDS, axes.lines, strict=True):
            expected = [
                fmean(
                    m[what][s][t]
                    for m in record["matrices"]
                    if m["layer"] == f"encoder.layers.{layer}"
                    for s, t in ((0, 1), (0, 2), (1, 2))
                )
                for layer in range(4)
            ]
            assert list(line.get_ydata()) == pytest.approx(expected)
            assert line.get_label() == KINDS[what][0]
        assert figure.facts == {
            "kind": "LoRA experts" if adapters else "fully fine-tuned experts",
            "inputs": 12,
        }
        write(config.folder, "slides_alignment", "figure")


def test_benchmarks_stand_beside_each_other(runs: Any) -> None:
    both = [Run(config.folder) for config in runs]
    figure = exhibits.known()["slides_alignment"].build(both[0])
    beside = exhibits.known()["alignment"].build(both)
    for axes, run in zip(beside.axes, both, strict=True):
        assert axes.get_title().startswith(f"{run.benchmark}\n")
    lines = [axes.lines for axes in (figure.axes[0], beside.axes[0])]
    for of_one, of_both in zip(lines[0][1:], lines[1], strict=True):
        assert np.array_equal(of_one.get_ydata(), of_both.get_ydata())


@pytest.mark.parametrize(
    ("variant", "vectors", "applies"),
    [
        ("lines", "ties", False),
        ("adamerging", "ties", True),
        ("adamerging", "none", False),
        ("adamerging", {"tune": ["none", "ties"]}, False),
    ],
)
def test_preparations_have_a_table_where_coefficients_are_learned(
    variant: str, vectors: str | dict[str, list[str]], applies: bool
) -> None:
    over = {"merge": {"variants": [{variant: {"over": vectors}}]}}
    config = configuration.load(ROOT / "config/demo.yaml", over=over)
    assert exhibits.known()["prepared"].applies(config) is applies


def test_preparations_stand_by_themselves_and_under_learned_coefficients(runs: Any) -> None:
    config = runs[1]
    table = exhibits.known()["prepared"].build(Run(config.folder))
    rows = {row["over"]: row for row in table.frame.to_dict("records")}
    assert list(rows) == ["base", "none", "ties", "tsv_m"]
    assert rows["base"]["alone_average"] == pytest.approx(Run(config.folder).mean_anp("base", 3))

    def anp(variant: str) -> tuple[float, float]:
        means = [fmean(merge["anp"] for merge in lines(config, variant, size)) for size in (2, 3)]
        return fmean(means), means[1]

    for over, alone, learned in (
        ("none", "task_arithmetic", "adamerging@level=task"),
        ("ties", "ties", OVER["ties"]),
        ("tsv_m", None, OVER["tsv_m"]),
    ):
        row = rows[over]
        found = [
            row[f"{key}_{what}"] for key in ("alone", "AdaMerging (TL)") for what in ("average", "largest")
        ]
        assert found[2:] == pytest.approx(anp(learned))
        assert found[:2] == pytest.approx(anp(alone)) if alone else np.isnan(found[:2]).all()
    assert rows["ties"]["method"] == "TIES"


def test_a_method_with_other_defaults_than_its_preparation_does_not_stand_by_itself(
    runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What prepares vectors has the method's own defaults, where the file names no others."""
    monkeypatch.setattr(Run, "_must_be_asked_for", lambda *given: None)  # the records have none of these
    for default, there in (({"scale": 0.5}, True), ({"density": 0.5}, False)):
        run, config = Run(runs[1].folder), runs[1]
        merge = config.merge.model_copy(update={"defaults": {**config.merge.defaults, "ties": default}})
        run.config = config.model_copy(update={"merge": merge})
        rows = exhibits.known()["prepared"].build(run).frame.set_index("over")
        assert np.isfinite(rows["alone_largest"]["ties"]) == there
