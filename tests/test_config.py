"""The configuration: defaults, short forms, and one clear line for each mistake."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from remerge import config as configuration
from remerge import exhibits, miniature
from remerge.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture
def raw():
    return yaml.safe_load((ROOT / "config/demo.yaml").read_text())


def refused(raw) -> str:
    with pytest.raises(UserError) as error:
        configuration.check(configuration.validate(raw, Path("my.yaml")))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_is_right_and_named_after_its_benchmark(path):
    config = configuration.load(path)
    configuration.check(config)
    assert config.benchmark == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_resolved_configuration_means_the_same(path):
    config = configuration.load(path)
    again = configuration.validate(yaml.safe_load(configuration.dump(config)), config.folder / "config.yaml")
    assert again == config


def test_a_key_that_the_template_shows_in_a_comment_can_be_taken_out_of_it():
    shown = (ROOT / "config/own.yaml").read_text()
    commented = re.findall(r"^ *# \w+: .*$", shown, re.MULTILINE)
    assert commented
    for line in commented:
        raw = yaml.safe_load(shown.replace(line, line.replace("# ", "", 1)))
        configuration.validate(raw, ROOT / "config/own.yaml")


def test_the_schema_in_the_repository_is_the_models_own():
    written = json.loads((ROOT / "config/schema.json").read_text())
    assert written == configuration.schema(), "run: remerge schema > config/schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_an_editor_that_follows_the_schema_finds_no_fault_in_a_configuration(path):
    schema = configuration.schema()
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    jsonschema.validate(yaml.safe_load(configuration.dump(configuration.load(path))), schema)


@pytest.mark.parametrize(
    "wrong",
    [{"benchmarks": "x"}, {"merge": {"variants": [{"ties": {}, "dare": {}}]}}, {"base": {"family": 1}}],
)
def test_an_editor_that_follows_the_schema_finds_a_fault(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, configuration.schema())


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
        (lambda c: c["plans"]["subsets"].update(size=[2]), ["plans.subsets.size", "sizes"]),
        (lambda c: c["tasks"]["cola"].pop("prompt"), ["tasks.cola", "give prompt"]),
        (lambda c: c["tasks"]["cola"].update(labels=[0]), ["tasks.cola: labels", "1 for 2"]),
        (lambda c: c["base"].update(family="t5"), ["unknown family 't5'", "seq2seq"]),
        (lambda c: c["base"].update(family="clip"), ["tasks.cola", "clip reads image: give image"]),
        (
            lambda c: (c["base"].update(family="classifier"), c["tasks"]["cola"].update(metric="rouge1")),
            ["tasks.cola", "leave metric at accuracy"],
        ),
        (
            lambda c: (c["base"].update(family="classifier"), c["tasks"]["cola"].update(metric="choice")),
            ["tasks.cola", "leave metric at accuracy"],
        ),
        (
            lambda c: c["tasks"]["cola"].update(metric="choice", answers=[], target="sentence"),
            ["tasks.cola: metric: choice is one of answers: name them, or use another metric"],
        ),
        (
            lambda c: c["tasks"]["cola"].update(metric="choice_by_length", answer_tokens=4),
            ["tasks.cola: answer_tokens: choice_by_length decodes no answer: leave it out"],
        ),
        (lambda c: c["finetune"].update(steps=0), ["finetune.steps", "greater than 0"]),
        (lambda c: c["finetune"].update(learning_rate="fast"), ["finetune.learning_rate", "'fast'"]),
        (lambda c: c.update(benchmark="../out"), ["benchmark", "pattern"]),
        (lambda c: c["tasks"].update({"../x": c["tasks"]["cola"]}), ["tasks.../x", "pattern"]),
        (
            lambda c: c["tasks"].update(base=c["tasks"]["cola"]),
            ["tasks.base", "the name of a reference model"],
        ),
        (lambda c: c["plans"]["subsets"].update(sizes=[9]), ["plans.subsets: sizes", "9"]),
        (lambda c: c["merge"].update(variants=["tise"]), ["unknown method 'tise'", "ties"]),
        (lambda c: c["merge"].update(variants=["ties", "ties"]), ["ties is listed twice: leave one out"]),
        (
            lambda c: c["merge"].update(variants=["ties", {"ties": {"density": 0.2}}]),
            ["ties and ties@density=0.2 have one name in print"],
        ),
        (
            lambda c: c["merge"].update(
                variants=["ties", {"ties": {"density": 0.2}}], defaults={"ties": {"density": 0.5}}
            ),
            ["ties and ties@density=0.2 have one name in print"],
        ),
        (
            lambda c: c["merge"].update(
                variants=[{"task_arithmetic": {"scale": 1}}, {"task_arithmetic": {"scale": 1.0}}]
            ),
            ["task_arithmetic@scale=1 and task_arithmetic@scale=1.0"],
        ),
        (
            lambda c: c["merge"].update(variants=["dare", {"dare": {"seeds": 3}}]),
            ["dare and dare@seeds=3 have one name in print", "seeds"],
        ),
        *(
            (
                lambda c, name=name: c["merge"].update(variants=[{"name": name, "method": "ties"}]),
                [f"method and parameters make it ties, not '{name}'"],
            )
            for name in ("..", "base", "average", "ties@density=0.1")
        ),
        *(
            (
                lambda c, variant=variant: c["merge"].update(variants=[variant]),
                ["merge.variants.0: write a method, or one with its parameters"],
            )
            for variant in ({"ties": {}, "dare": {}}, {"ties": [0.1]}, {}, 3)
        ),
        (
            lambda c: (c["merge"].update(variants=["divmerge"]), c["plans"].update(negation={})),
            ["plans.negation: no variant can make its merges"],
        ),
        (lambda c: c["tasks"]["cola"].update(expert_revision="main"), ["tasks.cola: expert_revision"]),
        (lambda c: c.update(benchmark="compare"), ["benchmark: results/compare", "another name"]),
        (lambda c: c["finetune"].update(steps=True), ["finetune.steps: True is a switch"]),
        (lambda c: c["finetune"].update(learning_rate=True), ["finetune.learning_rate: True is a switch"]),
        (lambda c: c.update(seed=False), ["seed: False is a switch"]),
        (lambda c: c["tasks"]["cola"].update(answers=[False, True]), ["tasks.cola.answers.0", "in quotes"]),
        (lambda c: c["tasks"].update({False: c["tasks"]["cola"]}), ["tasks", "in quotes"]),
        (
            lambda c: c["finetune"].update(batch_size=32, device_batch_size=24),
            ["finetune: device_batch_size: 32 examples per step are no multiple of 24"],
        ),
        (lambda c: c["finetune"].update(lora={"targets": []}), ["finetune.lora.targets", "at least 1 item"]),
        (lambda c: c["tasks"]["cola"].update(prompt="grammar?"), ["tasks.cola: prompt names no column"]),
        (lambda c: c["tasks"]["cola"].update(labels=[0, 0]), ["tasks.cola: labels: one is given twice"]),
        (lambda c: c["tasks"]["cola"].update(labels=[1, "1"]), ["tasks.cola: labels: one is given twice"]),
        *(
            (lambda c, key=key: c["tasks"]["cola"].update({key: ""}), [f"tasks.cola.{key}", "at least 1"])
            for key in ("source", "subset", "revision", "target", "expert")
        ),
        (lambda c: c["merge"].update(variants=[{"ties": {"densty": 0.1}}]), ["densty", "density"]),
        (lambda c: c["merge"].update(variants=[{"ties": {"density": 1.5}}]), ["density", "(0, 1]", "1.5"]),
        (
            lambda c: c["merge"].update(variants=[{"ties": {"scope": "a/b"}}]),
            ["scope must be model | tensor"],
        ),
        (lambda c: c["plans"]["subsets"].update(tune_on=["cola+sst"]), ["unknown task 'sst'", "sst2"]),
        (
            lambda c: (c["merge"].update(variants=["slerp"]), c["plans"]["subsets"].update(sizes=[3])),
            ["slerp makes no merges", "merges 2 experts"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"average": {"seeds": 3}}]),
            ["has nothing random in it: leave seeds out"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"knots": {"seeds": 3}}]),
            ["knots@seeds=3 has nothing random in it: leave seeds out"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"divmerge": {"stand_ins": "other"}}]),
            ["divmerge@stand_ins=other: stand_ins take no place without a share of inputs in replaced"],
        ),
        *(
            (
                lambda c, key=key: c["finetune"].update({"recipe": "standard", key: 3}),
                [f"finetune: {key} is of recipe tau_jp, and recipe is standard: set that, or leave {key}"],
            )
            for key in ("penalty", "penalty_inputs")
        ),
        (lambda c: c.update(tune={"trials": 20}), ["tune: trials are of tpe and cma", "leave trials out"]),
        (lambda c: c["merge"]["defaults"].update(tise={}), ["unknown method 'tise'", "ties"]),
        (lambda c: c["merge"]["defaults"].update(ties={"density": 3}), ["density must be"]),
        (lambda c: c["merge"]["defaults"].update(karcher={"steps": 3}), ["karcher: unknown parameter steps"]),
        (lambda c: c["merge"]["defaults"].update(dare={"rate": {"tune": []}}), ["defaults.dare: rate: tune"]),
        (
            lambda c: (c.update(rules=["./x.smk"]), c["merge"]["defaults"].update(x={"density": 1})),
            ["merge.defaults.x", "leave it out"],
        ),
        *(
            (
                lambda c, family=family: c["base"].update(
                    source="miniature", family=family, miniature={"architecture": "deberta"}
                ),
                [f"base: miniature.architecture: {family} does not read a deberta: give {word}"],
            )
            for family, word in (
                ("causal_lm", "qwen2 or llama"),
                ("seq2seq", "t5"),
                ("clip", "another"),
                ("chat", "another"),
            )
        ),
        *(
            (
                lambda c, heads=heads: c["base"].update(source="miniature", miniature={"heads": heads}),
                ["base: miniature.hidden: 128 is no even multiple"],
            )
            for heads in (3, 128)
        ),
        (
            lambda c: c["merge"].update(variants=[{"ties": {"density": {"tune": [0.1, 3]}}}]),
            ["density must be", "not 3"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"breadcrumbs": {"density": 1, "outliers": 0.5}}]),
            ["outliers"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"task_arithmetic": {"scale": {"cola": 1}}}]),
            ["scale", "no number for expert mnli"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"task_arithmetic": {"scale": [0.5] * 4}}]),
            ["scale: 4 numbers for 2 experts"],
        ),
        (
            lambda c: c["merge"].update(variants=[{"ties": {"density": {"tune": [0.1, 0.2, 0.1]}}}]),
            ["ties@tuned: density: 0.1 is given twice: leave one out"],
        ),
        (
            lambda c: (
                c["merge"].update(variants=[{"slerp": {"t": {"tune": [0.3, 0.7]}}}]),
                c["plans"]["subsets"].update(tune_on=["cola+mnli+sst2"]),
            ),
            ["plans.subsets.tune_on: slerp@tuned can make none of these"],
        ),
        (
            lambda c: (
                c["merge"].update(variants=["average", "divmerge"]),
                c["plans"].update(negation={"variants": ["average", "divmerge"]}),
            ),
            ["plans.negation: divmerge can make none of its merges: leave it out"],
        ),
        (lambda c: c["plans"]["subsets"].update(sizes=[]), ["plans.subsets.sizes", "at least 1 item"]),
        (lambda c: c.update(rules=["./x.smk"]), ["rules: x is not a variant"]),
        (lambda c: c.update(rules=["./average.smk"]), ["rules: average is the name of a method"]),
        *(
            (
                lambda c, given=given: (
                    c.update(rules=["./x.smk"]),
                    c["merge"].update(variants=[{"x": given}]),
                ),
                ["merge.variants: a rule of your own makes x, which takes no parameters"],
            )
            for given in ({"seeds": 2}, {"y": 1})
        ),
        (lambda c: c["tasks"]["cola"].update(prompt="{sentence"), ["tasks.cola", "a template is wrong"]),
        (lambda c: c.update(device="gpu"), ["device", "gpu"]),
        (lambda c: c.update(container="./no.sif"), ["container: ./no.sif is missing", "docker://"]),
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


def test_words_are_read_as_they_are_written(tmp_path):
    """YAML 1.1 makes True of yes, 8 of 010, 90 of 1:30, 10 of 1_0, and a date of 2020-01-01."""
    words = ["yes", "no", "010", "0x10", "1:30", "1_0", "2020-01-01", "On", "1.5e3", "-.5"]
    path = tmp_path / "c.yaml"
    path.write_text(
        f"include: {ROOT}/config/demo.yaml\ntasks:\n  sst2:\n    labels: [{', '.join(words)}, 7]\n"
        f"    answers: [{', '.join(words)}, seven]\nfinetune: {{learning_rate: 1e-4, multitask: no}}"
    )
    config = configuration.load(path)
    assert config.tasks["sst2"].labels == [*words, 7]
    assert config.tasks["sst2"].answers == [*words, "seven"]
    assert (config.finetune.learning_rate, config.finetune.multitask) == (1e-4, False)
    path.write_text(configuration.dump(config))
    assert configuration.load(path).tasks["sst2"] == config.tasks["sst2"]


def test_results_on_another_disk(raw, tmp_path, monkeypatch):
    """The configuration beside the results names the same local folders where these are a link."""
    (tmp_path / "elsewhere/deep/results").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("results").symlink_to("../elsewhere/deep/results")
    raw["base"]["source"] = "./base"
    config = configuration.validate(raw, Path("my.yaml"))
    config.folder.mkdir()
    (config.folder / "config.yaml").write_text(configuration.dump(config))
    assert configuration.load(config.folder / "config.yaml") == config


def test_seeds_of_an_inner_method_that_is_random(raw):
    raw["merge"]["variants"] = [{"knots": {"inner": "dare_ties", "density": 0.99, "seeds": 3}}]
    configuration.check(configuration.validate(raw, Path("x.yaml")))


def test_scales_of_both_signs_are_two_variants_of_one_rule(raw):
    raw["merge"]["variants"] = [{"task_arithmetic": {"scale": scale}} for scale in (0.5, -0.5)]
    names = [v.name for v in configuration.validate(raw, Path("x.yaml")).merge.variants]
    assert names == ["task_arithmetic@scale=0.5", "task_arithmetic@scale=-0.5"]


def test_the_grid_is_every_combination_in_order(raw):
    raw["merge"]["variants"] = [{"ties": {"density": {"tune": [0.1, 0.2]}, "scale": {"tune": [1, 2]}}}]
    raw["merge"]["defaults"] = {"ties": {"scope": "tensor", "density": 0.7}}
    config = configuration.validate(raw, Path("x.yaml"))
    (variant,) = config.merge.variants
    assert variant.name == "ties@tuned"
    assert config.grid(variant).sample == [{"density": d, "scale": s} for d in (0.1, 0.2) for s in (1, 2)]
    assert config.params(variant)["scope"] == "tensor"


def test_a_grid_that_is_too_large_to_try_is_searched_or_refused(raw):
    each = {task: {"tune": [k / 10 for k in range(1, 31)]} for task in raw["tasks"]}
    raw["merge"]["variants"] = [{"task_arithmetic": {"scale": each}}]
    said = "task_arithmetic@tuned: 810,000 settings to choose from: tune fewer, or set tune.search to tpe"
    assert said in refused(raw)
    raw["tune"] = {"search": "tpe", "trials": 20}
    config = configuration.validate(raw, Path("x.yaml"))
    assert config.trials(config.merge.variants[0]) == 20
    configuration.check(config)
    each["cola"]["tune"] = [0.5, 1000]
    assert "method task_arithmetic: scale must be" in refused(raw)
    each["cola"]["tune"] = 0.5
    assert "scale: cola: tune takes a list of values: write [0.1, 0.2]" in refused(raw)


def test_evolution_searches_numbers_in_order(raw):
    """What it cannot learn from is refused; a grid with as many points as trials is tried in full."""
    values = [k / 10 for k in range(30)]
    each = {f"model.layers.{k}": {task: {"tune": values} for task in raw["tasks"]} for k in range(24)}
    raw["merge"]["variants"] = [{"layerwise": {"scale": each}}]
    assert "layerwise@tuned: at least 10^141 settings to choose from: tune fewer, or set" in refused(raw)
    raw["tune"] = {"search": "cma", "trials": 200}
    config = configuration.validate(raw, Path("x.yaml"))
    configuration.check(config)
    assert config.trials(config.merge.variants[0]) == 200
    raw["tune"]["trials"] = 18
    said = (
        "tune.trials: cma learns nothing about 96 parameters before trial 19 (layerwise@tuned): give at least"
    )
    assert said in refused(raw)
    for tuned, why in (
        ({"density": values[1:11], "scope": ["tensor", "model"]}, "scope: cma takes numbers, ascending or"),
        ({"density": values[1:11], "scale": [1, 2, 0.5]}, "scale: cma takes numbers"),
        ({"density": values[1:11], "scale": [0.5, True]}, "scale: cma takes numbers"),
        (
            {"scale": values, "density": [0.5]},
            "cma learns how several parameters go together, and one is tuned",
        ),
    ):
        raw["merge"]["variants"] = [{"ties": {key: {"tune": listed} for key, listed in tuned.items()}}]
        raw["tune"]["trials"] = 19
        assert f"merge.variants: ties@tuned: {why}" in refused(raw)
        raw["tune"]["trials"] = 30
        configuration.validate(raw, Path("x.yaml"))
    raw["merge"]["variants"] = [{"ties": {"density": {"tune": values[5:0:-1]}, "scale": {"tune": values}}}]
    configuration.validate(raw, Path("x.yaml"))


def test_the_example_of_an_evolution_is_whole(tmp_path):
    (written,) = re.findall(r"(include: demo.*?)```", (ROOT / "docs/how-to/sweep.md").read_text(), re.DOTALL)
    (tmp_path / "evolved.yaml").write_text(written.replace("demo.yaml", str(ROOT / "config/demo.yaml")))
    config = configuration.load(tmp_path / "evolved.yaml")
    assert config.grid(config.merge.variants[0]).size == 11**8
    assert config.is_searched(config.merge.variants[0])


def test_parameters_are_chosen_on_merges_that_the_method_can_make(raw):
    grids = {"slerp": {"t": {"tune": [0.3, 0.7]}}, "ties": {"density": {"tune": [0.1, 0.2]}}}
    raw["merge"]["variants"] = [{method: grid} for method, grid in grids.items()]
    raw["plans"]["subsets"] = {"sizes": [2, 3]}
    for named, expected in (([], ["mrpc+sst2"]), (["cola+mnli+sst2", "cola+mnli"], ["cola+mnli"])):
        raw["plans"]["subsets"]["tune_on"] = named
        config = configuration.validate(raw, Path("x.yaml"))
        configuration.check(config)
        slerp, ties = (config.tuning(variant, "subsets") for variant in config.merge.variants)
        assert [case.name for case in slerp] == expected
        assert [case.name for case in ties] == (named or ["mnli+mrpc+sst2"])
        assert exhibits.known()["validation"].applies(config)
    # What was chosen on other merges is not compared.
    alone = config.merge.model_copy(update={"variants": config.merge.variants[:1]})
    assert not exhibits.known()["validation"].applies(config.model_copy(update={"merge": alone}))


def test_numbers_for_each_expert_need_only_fit_the_merges_that_are_made(raw):
    raw["merge"]["variants"] = [
        {"task_arithmetic": {"scale": scale}} for scale in ([0.5, 0.4], {"cola": 0.5, "mnli": 0.4})
    ]
    raw["plans"]["subsets"] = {"only": ["cola+mnli"]}
    configuration.check(configuration.validate(raw, Path("x.yaml")))


def test_grids_of_one_method_have_names_of_their_own(raw):
    raw["merge"]["variants"] = [{"ties": {"density": {"tune": values}}} for values in ([0.1], [0.2])]
    first, second = (v.name for v in configuration.validate(raw, Path("x.yaml")).merge.variants)
    assert first == "ties@tuned"
    assert second.startswith("ties@tuned=")


def test_a_configuration_builds_on_another(raw, tmp_path):
    (tmp_path / "sub").mkdir()
    raw["base"]["source"] = "./model"
    (tmp_path / "sub/below.yaml").write_text(yaml.safe_dump(raw))
    above = {"include": "sub/below.yaml", "benchmark": "above", "tasks": {"cola": {"sizes": {"test": 7}}}}
    (tmp_path / "above.yaml").write_text(yaml.safe_dump(above | {"merge": {"variants": ["ties"]}}))
    config = configuration.load(tmp_path / "above.yaml")
    below = configuration.load(tmp_path / "sub/below.yaml")
    assert config.base.source == str(tmp_path / "sub/model")
    assert config.tasks["cola"].sizes.test == 7
    assert config.tasks["cola"].prompt == below.tasks["cola"].prompt
    assert config.tasks["sst2"] == below.tasks["sst2"]
    assert [v.name for v in config.merge.variants] == ["ties"]
    assert config.merge.defaults == below.merge.defaults


@pytest.mark.parametrize("to", ["results", "gone", None])
def test_results_below_what_is_no_folder_are_refused(to, tmp_path, monkeypatch):
    """A link to itself, one to a disk that is not there, and a file."""
    monkeypatch.chdir(tmp_path)
    if to:
        Path("results").symlink_to(to)
    else:
        Path("results").touch()
    with pytest.raises(UserError, match="results: no folder, and results are written there"):
        configuration.check(configuration.load(ROOT / "config/demo.yaml"))


@pytest.mark.parametrize(
    ("below", "above", "given", "words"),
    [
        ({"seed": -1}, {}, {}, "below.yaml: seed: "),
        ({"seed": -1}, {"seed": -2}, {}, "above.yaml: seed: .* not '-2'"),
        ({"seed": 1}, {"seed": 2}, {"seed": -3}, "--config: seed: .* not '-3'"),
        ({"finetune": {"steps": 0}}, {"finetune": {"batch_size": 4}}, {}, "below.yaml: finetune.steps: "),
        ({}, {}, {"finetune": {"step": 1}}, "--config: unknown key finetune.step, .* steps"),
        ({}, {"tasks": {"new": {"prompt": "x"}}}, {}, "above.yaml: tasks.new.source is missing"),
        ({"merge": {"variants": [{"ties": 3}]}}, {}, {}, "below.yaml: merge.variants.0"),
        ({}, {}, {"plans": {"subsets": {"tune_on": ["cola+x"]}}}, "above.yaml: "),  # what does not agree
    ],
)
def test_what_is_wrong_is_named_where_it_is_written(below, above, given, words, tmp_path):
    """A configuration may build on another, and the command line on both."""
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    (tmp_path / "below.yaml").write_text(yaml.safe_dump(demo | below))
    (tmp_path / "above.yaml").write_text(yaml.safe_dump({"include": "below.yaml", **above}))
    with pytest.raises(UserError, match=words):
        configuration.load(tmp_path / "above.yaml", over=given)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a": {"include": "b.yaml"}, "b": {"include": "a.yaml"}}, "includes this file again: leave one out"),
        ({"a": {"include": "a.yaml"}}, "includes this file again: leave one out"),
        ({"a": {"include": "c.yaml"}}, "c.yaml: No such file"),
        ({"a": {"include": ["b.yaml"]}}, "name one file"),
        ({"a": {"include": "b.yaml"}, "b": []}, "not a mapping"),
    ],
)
def test_what_cannot_be_included(files, words, tmp_path):
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=words):
        configuration.load(tmp_path / "a.yaml")


def local(tmp_path, row, **task):
    """A configuration with one task of local data."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text(json.dumps(row) + "\n")
    splits = dict.fromkeys(["train", "validation", "test"], "train")
    task = {"source": "./data", "splits": splits, "prompt": "{text}", "answers": ["a", "b"], **task}
    raw = {"benchmark": "x", "base": {"source": "b"}, "tasks": {"one": task, "two": task}}
    return configuration.validate(raw | {"merge": {"variants": ["average"]}}, tmp_path / "x.yaml")


def test_prompts_are_checked_against_local_data_before_work(tmp_path):
    with pytest.raises(
        UserError, match=r"tasks\.one: no column 'text' in split 'train' .*\(its columns: words, label\)"
    ):
        configuration.check(local(tmp_path, {"words": "x", "label": 0}))


def test_the_template_is_not_yet_a_benchmark():
    said = configuration.missing(configuration.load(ROOT / "config/own.yaml"))
    assert said[0] == "base.source: models/BASE: no such folder: give a folder made by save_pretrained"
    assert len(said) > 1


def test_heads_of_local_experts_are_checked_before_work(tmp_path):
    (tmp_path / "expert").mkdir()
    (tmp_path / "expert/config.json").write_text(json.dumps({"id2label": {"0": "a", "1": "b", "2": "c"}}))
    config = local(tmp_path, {"text": "x", "label": 0}, expert="./expert")
    configuration.check(config)
    base = config.base.model_copy(update={"family": "classifier"})
    with pytest.raises(UserError, match=r"the head of one has 3 classes, and tasks\.one\.answers names 2"):
        configuration.check(config.model_copy(update={"base": base}))
    for damaged in ("[]", '{"id2label": '):
        (tmp_path / "expert/config.json").write_text(damaged)
        with pytest.raises(UserError, match=r"expert/config\.json.*: download or save it again"):
            configuration.check(config.model_copy(update={"base": base}))


def test_the_disk_must_have_room_for_the_experts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(b"0" * 1000)
    config = local(tmp_path, {"text": "x", "label": 0})
    config = config.model_copy(
        update={"base": config.base.model_copy(update={"source": str(tmp_path / "base")})}
    )
    configuration.check(config)
    usage = shutil.disk_usage(tmp_path)._replace(free=2999)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"3 experts take 0\.0 GB"):
        configuration.check(config)


def test_the_settings_of_many_variants_are_looked_up_a_few_times_each(raw, tmp_path, monkeypatch):
    looked, params = [], configuration.Config.params
    monkeypatch.setattr(
        configuration.Config, "params", lambda self, variant: looked.append(variant) or params(self, variant)
    )
    raw["merge"]["variants"] = [{"ties": {"density": number / 100}} for number in range(1, 81)]
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(raw))
    configuration.load(tmp_path / "many.yaml")
    assert len(looked) < 10 * 80
