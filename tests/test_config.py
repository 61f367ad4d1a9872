"""The configuration: defaults, short forms, and one clear line for each mistake."""

import json
from pathlib import Path

import pytest
import yaml

from remerge import config as configuration
from remerge import miniature
from remerge.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture
def raw():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


def refused(raw) -> str:
    with pytest.raises(UserError) as error:
        configuration.check_methods(configuration.validate(raw, Path("my.yaml")))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_right_and_named_after_its_benchmark(path):
    config = configuration.load(path)
    configuration.check_methods(config)
    assert config.benchmark == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_resolved_configuration_means_the_same(path):
    config = configuration.load(path)
    again = configuration.validate(yaml.safe_load(configuration.dump(config)), Path("results/x.yaml"))
    assert again == config


def test_the_schema_in_the_repository_is_the_models_own():
    written = json.loads((ROOT / "config/schema.json").read_text())
    assert written == configuration.Config.model_json_schema(), "run: remerge schema > config/schema.json"


@pytest.mark.parametrize("name", ["demo", "demo-full"])
def test_the_miniature_is_asked_as_its_base_was_pretrained(name):
    config = configuration.load(ROOT / f"config/{name}.yaml")
    for task, settings in config.tasks.items():
        assert settings.prompt == miniature.FORMATS[task].prompt
        assert tuple(settings.answers) == miniature.FORMATS[task].answers


def test_variants_are_named_by_what_differs(raw):
    raw["merge"]["variants"] = ["ties", {"ties": {"scale": 1.2, "density": 0.1}}]
    names = [v.name for v in configuration.validate(raw, Path("x.yaml")).merge.variants]
    assert names == ["ties", "ties@density=0.1,scale=1.2"]


def test_local_sources_are_relative_to_the_file(raw, tmp_path):
    raw["base"]["source"] = "./model"
    raw["tasks"]["cola"]["source"] = "../data/cola"
    config = configuration.validate(raw, tmp_path / "my.yaml")
    assert config.base.source == str(tmp_path / "model")
    assert config.tasks["cola"].source == str(tmp_path.parent / "data/cola")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["finetune"].update(learing_rate=1), ["finetune.learing_rate", "learning_rate"]),
        (lambda c: c.update(taks={}), ["unknown key taks", "tasks"]),
        (lambda c: c["tasks"]["cola"].update(promt="x"), ["tasks.cola.promt", "prompt"]),
        (lambda c: c["learning"]["select"].update(lr=[1]), ["learning.select.lr", "learning_rate"]),
        (lambda c: c["tasks"]["cola"].pop("prompt"), ["tasks.cola", "give prompt"]),
        (lambda c: c["tasks"]["cola"].update(labels=[0]), ["tasks.cola: labels", "1 for 2"]),
        (lambda c: c["base"].update(family="t5"), ["base.family", "seq2seq"]),
        (lambda c: c["base"].update(family="clip"), ["tasks.cola", "clip reads image"]),
        (
            lambda c: (c["base"].update(family="classifier"), c["tasks"]["cola"].update(metric="rouge1")),
            ["tasks.cola", "leave metric at accuracy"],
        ),
        (lambda c: c["finetune"].update(steps=0), ["finetune.steps", "greater than 0"]),
        (lambda c: c["finetune"].update(learning_rate="fast"), ["finetune.learning_rate", "'fast'"]),
        (lambda c: c.update(benchmark="../out"), ["benchmark", "pattern"]),
        (lambda c: c["tasks"].update({"../x": c["tasks"]["cola"]}), ["tasks.../x", "pattern"]),
        (lambda c: c["tasks"].update(base=c["tasks"]["cola"]), ["tasks.base", "taken"]),
        (lambda c: c["merge"].update(sizes=[9]), ["merge.sizes", "9"]),
        (lambda c: c["merge"].update(variants=["tise"]), ["unknown method 'tise'", "ties"]),
        (lambda c: c["merge"].update(variants=["ties", "ties"]), ["ties stands twice"]),
        (lambda c: c["merge"].update(variants=[{"ties": {"densty": 0.1}}]), ["densty", "density"]),
        (lambda c: c["merge"].update(variants=[{"ties": {"density": 1.5}}]), ["density", "(0, 1]", "1.5"]),
        (lambda c: c["merge"].update(variants=[{"ties": {"scope": "a/b"}}]), ["cannot name a folder"]),
        (lambda c: c["learning"]["select"].update(subsets=["cola+sst"]), ["unknown task 'sst'", "sst2"]),
        (lambda c: c["merge"].update(variants=["slerp"]), ["slerp merges 2 experts", "merge.sizes"]),
        (lambda c: c.update(device="gpu"), ["device", "gpu"]),
    ],
)
def test_a_mistake_gets_one_line_that_names_key_and_remedy(raw, change, words):
    change(raw)
    message = refused(raw)
    for word in words:
        assert word in message, message


def test_files_that_are_no_configuration(tmp_path):
    for text, word in [("a: [", "not YAML"), ("- a", "not a mapping"), (None, "No such file")]:
        path = tmp_path / "c.yaml"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(UserError, match=word):
            configuration.load(path)
