"""Linearised experts through the stages: trained, kept apart from ordinary ones, merged and scored."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from remerge import config as configuration
from remerge.config import Config
from remerge.errors import UserError
from remerge.families.linearised import expansion
from remerge.methods import find
from remerge.stages import alignment, base, data, experts, exports, merges, references, scores
from remerge.stages._bench import Bench
from remerge.stages._workspace import Workspace
from remerge.tau_jp import tau_jp

ROOT = Path(__file__).parents[2]
TASKS = ("digit", "inverted", "striped")


def settings(recipe: str, **finetune: Any) -> dict[str, Any]:
    whole = configuration.load(ROOT / "config/demo-vision.yaml").model_dump(mode="json")
    sizes = {"train": 64, "validation": 16, "test": 40}
    learning = {"learning_rate": 1e-3, "batch_size": 16, "steps": 8, "multitask": False}
    return {
        "benchmark": recipe,
        "base": whole["base"],
        "tasks": {task: whole["tasks"][task] | {"sizes": sizes} for task in TASKS},
        "finetune": learning | {"recipe": recipe} | finetune,
        "merge": {"variants": [{"task_arithmetic": {"scale": 0.5}}, {"adamerging": {"inputs": 4}}]},
        "plans": {"subsets": {"only": ["digit+striped"]}},
    }


def load(folder: Path, raw: dict[str, Any]) -> Config:
    file = folder / f"{raw['benchmark']}.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    return configuration.load(file)


def trained(config: Config, tasks: tuple[str, ...] = TASKS) -> Config:
    base.run(config)
    for task in TASKS:
        data.run(config, task)
    for task in tasks:
        experts.run(config, task)
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    """A folder with a linearised run whose experts are trained, and one of tau_jp with one expert."""
    folder = tmp_path_factory.mktemp("linearised")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        plain = trained(load(folder, settings("linearised")))
        penalised = trained(load(folder, settings("tau_jp", penalty=3.0)), ("digit",))
        yield folder, plain, penalised


def test_an_expert_is_kept_as_what_it_is(runs: Any) -> None:
    _, config, _ = runs
    space = Workspace(config)
    record = space.record("digit")
    assert record.linearised_at == space.record("base").fingerprint != record.fingerprint
    assert [file.name for file in Path(record.path).iterdir()] == ["linearised.safetensors"]
    assert record.training["steps"] == 8 and space.record("base").linearised_at is None


def test_training_lowers_the_loss_of_the_linearised_model(runs: Any) -> None:
    _, config, _ = runs
    space = Workspace(config)
    batch = space.family.collate(space.split("digit", "train").examples, space.device)
    losses = []
    for model in ("base", "digit"):
        with torch.no_grad():
            logits = space.family.logits(space.load(model, ["digit"]), batch)
        losses.append(float(torch.nn.functional.cross_entropy(logits, batch.targets)))
    assert losses[1] < 0.9 * losses[0]


def test_what_merges_say_is_the_sum_of_what_their_experts_say(runs: Any) -> None:
    """f(theta_0 + λ Σ tau) - f(theta_0) = λ Σ (f(theta_t) - f(theta_0)), of linearised models alone."""
    _, config, _ = runs
    bench = Bench(config)
    family: Any = bench.space.family
    batch = family.collate(bench.space.split("inverted", "test").examples, bench.space.device)
    method = find("task_arithmetic")
    with torch.no_grad():
        parts = [
            expansion(family.inner, bench.space.load(task, ["inverted"]), family.theta_0, batch)[1]
            for task in ("digit", "striped")
        ]
        bench.merge(method, method.settings({"scale": 0.5}), {"digit": 1, "striped": 1})
        _, derivative = expansion(family.inner, bench.model, family.theta_0, batch)
    torch.testing.assert_close(derivative, 0.5 * sum(parts), rtol=1e-3, atol=1e-4)
    assert derivative.norm() > 0.1


def test_a_run_is_scored_and_merged(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config, _ = runs
    monkeypatch.chdir(folder)
    for task in TASKS:
        references.run(config, task)
    scores.run(config)
    space = Workspace(config)
    for variant in config.merge.variants:
        merges.run(config, variant.name, "2")
        (line,) = (config.folder / f"merges/{variant.name}/2.jsonl").read_text().splitlines()
        record = json.loads(line)
        assert record["tasks"] == ["digit", "striped"] and 0 < record["anp"] < 200
    # The recorded score is the linearised model's.
    part = space.split("digit", "test")
    batch = space.family.collate(part.examples, space.device)
    with torch.no_grad():
        right = space.family.logits(space.load("digit", ["digit"]), batch).argmax(1) == batch.targets
    kept = json.loads((config.folder / "scores/digit.json").read_text())["scores"]["digit"]["value"]
    assert kept == pytest.approx(float(right.float().mean()))
    # Of the base, which an expansion does not change, the inputs of layers are found.
    alignment.run(config)
    assert json.loads((config.folder / "alignment.json").read_text())["matrices"]
    with pytest.raises(UserError, match="from_pretrained cannot read a merge of linearised models"):
        exports.run(config, "task_arithmetic@scale=0.5", "digit+striped")


def test_tau_jp_keeps_other_tasks_as_they_are(runs: Any) -> None:
    _, config, penalised = runs
    found = []
    for run in (config, penalised):
        space = Workspace(run)
        family: Any = space.family
        batch = family.collate(space.split("inverted", "train").examples, space.device)
        with torch.no_grad():
            found.append(float(tau_jp(family, space.load("digit", ["digit"]), batch)))
    plain, kept = found
    assert kept < 0.7 * plain


def test_experts_of_another_kind_or_base_are_refused(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config, _ = runs
    monkeypatch.chdir(folder)
    expert = str((folder / Workspace(config).path("digit")).resolve())
    raw = settings("standard") | {"benchmark": "other"}
    raw["tasks"]["digit"]["expert"] = expert
    other = load(folder, raw)
    base.run(other)
    with pytest.raises(UserError, match=r"a linearised model, which does not fit finetune\.recipe standard"):
        experts.run(other, "digit")
    raw = settings("linearised") | {"benchmark": "again"}
    raw["tasks"]["digit"]["expert"] = expert
    raw["tasks"]["striped"]["expert"] = raw["base"]["source"]
    again = load(folder, raw)
    base.run(again)
    experts.run(again, "digit")  # of the same base it may be taken
    assert Workspace(again).record("digit").fingerprint == Workspace(config).record("digit").fingerprint
    with pytest.raises(UserError, match=r"an ordinary model, .*: leave tasks\.striped\.expert out"):
        experts.run(again, "striped")
    record = Workspace(again).record("base").model_copy(update={"fingerprint": "0123"})
    record.write(again.folder, model="base")
    with pytest.raises(UserError, match=r"linearised at base .*, this benchmark's is 0123"):
        experts.run(again, "digit")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"finetune": {"recipe": "linearised", "lora": {}}},
            "an adapter cannot be linearised: leave lora out",
        ),
        ({"base": {"family": "clip", "source": "x", "dtype": "bfloat16"}}, "base.dtype bfloat16 rounds"),
        ({"merge": {"variants": ["fisher"]}}, "fisher needs statistics of ordinary models: leave it out"),
        ({"rules": ["mine.smk"]}, "rules of your own write ordinary models"),
    ],
)
def test_what_cannot_be_linearised_is_refused_by_its_key(change: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        configuration.validate(settings("linearised") | change, Path("x.yaml"))


@pytest.mark.parametrize("name", ["demo", "demo-t5", "demo-encoder"])
def test_families_without_fixed_heads_are_refused(name: str) -> None:
    raw = configuration.load(ROOT / f"config/{name}.yaml").model_dump(mode="json")
    raw["finetune"]["recipe"] = "tau_jp"
    raw["base"]["dtype"] = "float32"
    with pytest.raises(UserError, match=f"{raw['base']['family']} cannot be linearised: use one of clip"):
        configuration.validate(raw, Path("x.yaml"))
