"""Merges as checkpoints: what is written is the merge, and the libraries that it is for load it."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from loading import close, loaded
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

import remerge
from remerge import learn
from remerge.__main__ import main
from remerge.checkpoints.adapters import read_adapter
from remerge.checkpoints.models import held, state_of
from remerge.checkpoints.stored import stored_tensors
from remerge.config import load
from remerge.deltas import Deltas, layer_of, merge_state
from remerge.errors import UserError
from remerge.files import write_folder
from remerge.folders.recipe import RECIPE
from remerge.methods import prepare
from remerge.stages import _again
from remerge.stages import base as base_stage
from remerge.stages import experts as experts_stage
from remerge.stages._bench import Bench
from remerge.variants import name_of

TASKS = {"cola": 2, "mnli": 3, "sst2": 2}
PAIR = ["cola", "mnli"]
LEARNED = {
    "task": {"cola": 0.7, "mnli": -0.2},
    "layer": {
        "cola": {"model.layers.0": 0.1, "model.layers.1": 0.9, "other": 0.5},
        "mnli": {"model.layers.0": 0.4, "model.layers.1": -0.3, "other": 0.2},
    },
}
SCALES = {
    "model.layers.0": [0.1, 0.4],
    "model.layers.1": [0.9, -0.3],
    "other": [0.5, 0.2],
}
PLAIN = [("average", {"weights": [0.2, 0.6]}), ("task_arithmetic", {"scale": [0.5, -0.4]})]
MERGEKITS = [*PLAIN, ("ties", {"density": 0.3, "scope": "tensor", "scale": 0.8}), ("multi_slerp", {})]
MERGEKITS += [("slerp", {"t": 0.3, "of": "weights"})]


@pytest.fixture
def adapters(folder, tmp_path):
    """Three experts as adapters: the third changes other layers than the first two."""
    for seed, task in enumerate(TASKS):
        torch.manual_seed(seed)
        targets = ["q_proj", "k_proj"] if task != "sst2" else ["k_proj", "up_proj"]
        config = LoraConfig(r=3 + 2 * seed, lora_alpha=5, target_modules=targets, init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(tmp_path / task)


@pytest.fixture
def world(tmp_path, monkeypatch, folder):
    """A benchmark with base and experts on record."""
    # Records are written by hand, and no journal has them.
    monkeypatch.setattr(_again, "_follows", lambda *given: True)

    def make(*variants, family="causal_lm", metric="accuracy", **base):
        monkeypatch.chdir(tmp_path)
        tasks = {
            task: {
                "source": "miniature",
                "prompt": "{sentence}",
                "answers": list("abc")[:classes],
                "metric": metric,
                "expert": f"./{task}",
            }
            for task, classes in TASKS.items()
        }
        raw = {"benchmark": "w", "base": {"source": "./model", "family": family, **base}, "tasks": tasks}
        Path("w.yaml").write_text(yaml.safe_dump({**raw, "merge": {"variants": list(variants)}}))
        config = load(Path("w.yaml"))
        base_stage.run(config)
        for task in TASKS:
            experts_stage.run(config, task)
        return config

    return make


def scored(config, variant, coefficients=None):
    """A merge's record, as a campaign writes it."""
    score = {"metric": "accuracy", "value": 0.8, "restricted": None, "n": 9}
    record = {
        "benchmark": config.benchmark,
        "variant": variant,
        "method": config.variant(variant).method,
        "case": "+".join(PAIR),
        "signs": dict.fromkeys(PAIR, 1),
        "tasks": PAIR,
        "size": len(PAIR),
        "params": config.variant(variant).params,
        "seed": 0,
        "coefficients": coefficients or {},
        "trace": [],
        "scores": dict.fromkeys(PAIR, score | {"value": 0.6}),
        "others": {},
        "normalised": dict.fromkeys(PAIR, 0.75),
        "anp": 75.0,
        "anp_restricted": None,
        "seconds": {"merge": 0.1, "fit": 0.0, "evaluate": 0.1},
    }
    other = record | {"tasks": ["cola", "sst2"], "coefficients": {}}
    unmerged = {"benchmark": config.benchmark}
    for path, text in {
        f"merges/{variant}/2.jsonl": f"{json.dumps(other)}\n{json.dumps(record)}\n",
        **{f"scores/{t}.json": json.dumps(unmerged | {"model": t, "scores": {t: score}}) for t in PAIR},
    }.items():
        (config.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (config.folder / path).write_text(text)


def exported(variant, subset="cola+mnli"):
    assert main(["exports", "w.yaml", variant, subset]) == 0
    return Path("results/w/exports", variant, subset)


@pytest.mark.parametrize(
    ("method", "params", "coefficients", "oracle", "given"),
    [
        ("ties", {"density": 0.3}, None, "ties", {"density": 0.3}),
        ("divmerge", {"level": "task"}, LEARNED["task"], "task_arithmetic", {"scale": [0.7, -0.2]}),
        ("divmerge", {"level": "layer"}, LEARNED["layer"], "layerwise", {"scale": SCALES}),
        ("adamerging", {"over": "ties@aggregate=sum"}, LEARNED["task"], "ties", {"scale": [0.7, -0.2]}),
    ],
)
def test_an_export_is_the_merge(world, expert_folders, base, method, params, coefficients, oracle, given):
    config, variant = world({method: params}), name_of(method, params)
    scored(config, variant, coefficients)
    folder = exported(variant)
    if "over" in params:
        given = {**given, "aggregate": "sum"}
    close(loaded(folder), remerge.merge(oracle, base, {t: expert_folders[t] for t in PAIR}, **given))
    assert AutoTokenizer.from_pretrained(folder)("the cat").input_ids
    assert GenerationConfig.from_pretrained(folder)
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model is None and str(Path.cwd()) not in card.content
    assert "| the base | model |" in card.text
    assert card.data.tags == ["merge", "remerge"]
    found = {result.dataset_name: result for result in card.data.eval_results}
    assert (found["cola"].metric_type, found["cola"].metric_value) == ("accuracy", 0.6)
    assert found["cola"].task_type == "text-classification"
    assert "| cola | accuracy | 0.6000 | 0.8000 | 0.7500 |" in card.text
    assert "ANP (100 times the mean of the last column): 75.00" in card.text
    for c in coefficients or {}:
        assert f"| {c} |" in card.text
    assert f"remerge exports results/w/config.yaml {variant} cola+mnli" in card.text


def test_the_card_of_a_merge_that_chooses_says_so(world, expert_folders):
    scored(world("average", metric="choice"), "average")
    results = ModelCard.load(exported("average") / "README.md").data.eval_results
    assert {result.task_type for result in results} == {"multiple-choice"}


def test_without_a_record_coefficients_are_learned(world, expert_folders, base, monkeypatch):
    config = world({"divmerge": {"level": "task"}})
    lam = torch.tensor([[0.3], [0.6]])
    fit = learn.Fit(lam, ["other"], [], {0: lam}, 0.0)
    monkeypatch.setattr(Bench, "fit", lambda *given: fit)
    path = config.folder / "selection/divmerge@level=task.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"chosen": {"learning_rate": 0.1, "initial": 0.5}}))
    folder = exported("divmerge@level=task")
    expected = remerge.merge("task_arithmetic", base, {t: expert_folders[t] for t in PAIR}, scale=[0.3, 0.6])
    close(loaded(folder), expected)
    assert "It was not scored." in (folder / "README.md").read_text()


def test_an_export_has_the_dtype_of_the_base(world, expert_folders, base, folder):
    AutoModelForCausalLM.from_pretrained(folder).bfloat16().save_pretrained(folder)
    world("average")
    written = load_file(exported("average") / "model.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    name = "model.layers.0.mlp.up_proj.weight"
    mean = (expert_folders["cola"][name] + expert_folders["mnli"][name]) / 2
    torch.testing.assert_close(written[name], mean.bfloat16(), atol=0.01, rtol=0.01)
    assert json.loads((exported("average") / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("method", "params", "coefficients"),
    [
        *((method, params, None) for method, params in MERGEKITS),
        ("divmerge", {"level": "task"}, LEARNED["task"]),
        ("divmerge", {"level": "layer"}, LEARNED["layer"]),
    ],
)
def test_mergekit_makes_the_same_weights(world, expert_folders, tmp_path, method, params, coefficients):
    config, variant = world({method: params}), name_of(method, params)
    scored(config, variant, coefficients)
    folder = exported(variant)
    recipe = MergeConfiguration.model_validate(yaml.safe_load((folder / RECIPE).read_text()))
    run_merge(recipe, str(tmp_path / "mergekit"), MergeOptions(copy_tokenizer=False, quiet=True))
    close(loaded(tmp_path / "mergekit"), loaded(folder), error=1e-5)
    assert "`mergekit_config.yml` makes the same merge" in (folder / "README.md").read_text()


def test_mergekit_is_pointed_to_what_was_merged(world, expert_folders, folder):
    """A revision of the base, and an expert whose added tokens the pipeline has cut."""
    cola = AutoModelForCausalLM.from_pretrained(folder.parent / "cola")
    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens(["<one>", "<two>"])
    cola.resize_token_embeddings(len(words))
    for part in (cola, words):
        part.save_pretrained(folder.parent / "cola")
    world({"task_arithmetic": {}}, vocabulary="common", revision="v1")
    recipe = yaml.safe_load((exported("task_arithmetic") / RECIPE).read_text())
    assert recipe["base_model"] == f"{folder.resolve()}@v1"
    sources = [str(folder.parent / "mnli"), str(folder.parent / "results/w/experts/cola")]
    assert sorted(model["model"] for model in recipe["models"]) == sorted(sources)
    card = ModelCard.load("results/w/exports/task_arithmetic/cola+mnli/README.md")
    assert str(folder.parent) not in card.content


@pytest.mark.parametrize(
    ("method", "params"),
    [("ties", {}), ("dare", {}), ("ties", {"scope": "tensor", "scale": [0.5, 1.0]})],
)
def test_what_mergekit_cannot_say_has_no_recipe(world, expert_folders, method, params):
    world({method: params})
    folder = exported(name_of(method, params))
    assert not (folder / RECIPE).exists()
    assert "mergekit 0.1.5 cannot express this merge exactly" in (folder / "README.md").read_text()


def test_layers_that_are_stored_under_other_names_have_no_recipe(world, expert_folders, folder):
    """mergekit would find none of them, and give all tensors the coefficient of those in no layer."""
    config, variant = world({"divmerge": {"level": "layer"}}), "divmerge@level=layer"
    scored(config, variant, LEARNED["layer"])
    assert (exported(variant) / RECIPE).exists()
    whole = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in whole.items()}
    save_file(bare, folder / "model.safetensors", {"format": "pt"})
    base_stage.run(config)
    assert not (exported(variant) / RECIPE).exists()


@pytest.mark.parametrize(
    ("method", "params", "subset"),
    [
        *((*plain, "cola+mnli") for plain in PLAIN),
        ("average", {}, "cola+mnli+sst2"),
        ("multi_slerp", {}, "cola+mnli"),
        ("divmerge", {"level": "layer"}, "cola+mnli"),
    ],
)
def test_a_linear_merge_of_adapters_is_one_adapter(world, adapters, model, base, method, params, subset):
    config, variant = world({method: params}), name_of(method, params)
    learned = method == "divmerge"
    scored(config, variant, LEARNED["layer"] if learned else None)
    folder = exported(variant, subset)
    assert not (folder / "model.safetensors").exists()
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("model"), folder)
    ranks = {name: len(A) for name, A in found.state_dict().items() if "lora_A" in name}
    # Of ranks 3, 5 and 7: k_proj maps to 8 dimensions.
    expected = {("q_proj", 8), ("k_proj", 8)} | ({("up_proj", 7)} if "sst2" in subset else set())
    assert {(name.split(".")[-4], rank) for name, rank in ranks.items()} == expected
    deltas = {task: read_adapter(Path(task), held(model)).values for task in subset.split("+")}
    changed = {name: base[name] for name in base if any(name in d for d in deltas.values())}
    experts = {task: {**changed, **delta} for task, delta in deltas.items()}
    if learned:
        method, params = "layerwise", {"scale": {k: v for k, v in SCALES.items() if k != "other"}}
    merged = remerge.merge(method, changed, experts, **params)
    close(state_of(found.merge_and_unload()), {**base, **merged}, error=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(Path("model").resolve())
    assert config["task_type"] == "CAUSAL_LM"
    assert ModelCard.load(folder / "README.md").data.library_name == "peft"


@pytest.mark.parametrize("subset", ["cola+mnli", "cola+mnli+sst2"])
@pytest.mark.parametrize("method", ["knots", "tsv_m", "star", "cart", "drm_h", "drm_v", "iso_c", "iso_cts"])
def test_merges_within_the_adapters_own_space_stay_adapters(world, adapters, model, base, method, subset):
    params = {"scale": 0.9, **({"density": 0.5} if method in ("knots", "drm_h", "drm_v") else {})}
    world({method: params})
    found = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained("model"), exported(name_of(method, params), subset)
    )
    ranks = {name.split(".")[-4]: len(A) for name, A in found.state_dict().items() if "lora_A" in name}
    assert set(ranks) == {"q_proj", "k_proj"} | ({"up_proj"} if "sst2" in subset else set())
    assert ranks.get("up_proj", 7) <= 7 and ranks["q_proj"] <= 8
    deltas = {task: read_adapter(Path(task), held(model)).values for task in subset.split("+")}
    changed = {name: base[name] for name in base if any(name in d for d in deltas.values())}
    # As dense task vectors, of which no method knows that their rank is low.
    experts = {
        task: {
            name: theta + delta[name].dense() if name in delta else theta.clone()
            for name, theta in changed.items()
        }
        for task, delta in deltas.items()
    }
    merged = remerge.merge(method, changed, experts, **params)
    close(state_of(found.merge_and_unload()), {**base, **merged}, error=1e-5)


def test_coefficients_learned_in_the_adapters_own_space_give_an_adapter(world, adapters, model, base):
    params = {"level": "layer", "over": "knots@density=0.5"}
    config = world({"divmerge": params})
    variant = name_of("divmerge", params)
    scored(config, variant, LEARNED["layer"])
    folder = exported(variant)
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("model"), folder)
    deltas = {task: read_adapter(Path(task), held(model)).values for task in PAIR}
    changed = {name: base[name] for name in deltas["cola"]}
    prepared = prepare("knots", Deltas(changed, deltas), density=0.5)
    merged = merge_state(changed, prepared.combine({name: SCALES[layer_of(name)] for name in prepared}))
    close(state_of(found.merge_and_unload()), {**base, **merged}, error=1e-5)


def test_one_adapter_of_those_that_change_embeddings(world, folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(folder, tie_word_embeddings=False)
    model.lm_head.weight.data = model.lm_head.weight + 1
    model.save_pretrained(folder)
    states = []
    for seed, task in enumerate(TASKS):
        torch.manual_seed(seed)
        targets = ["q_proj", "embed_tokens"]
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder),
            LoraConfig(r=2, target_modules=targets, init_lora_weights=False),
        )
        adapted.save_pretrained(tmp_path / task)
        states.append({name: tensor.clone() for name, tensor in state_of(adapted.merge_and_unload()).items()})
    world("average")
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("model"), exported("average"))
    mean = {name: (tensor + states[1][name]) / 2 for name, tensor in states[0].items()}
    close(state_of(found.merge_and_unload()), mean, error=1e-5)


def test_a_merge_of_adapters_with_trained_tensors_beside_them_is_a_model(world, folder, tmp_path):
    states = []
    for seed, task in enumerate(TASKS):
        torch.manual_seed(seed)
        config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["norm"], init_lora_weights=False)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
        adapted.base_model.model.model.norm.modules_to_save["default"].weight.data += seed + 1
        adapted.save_pretrained(tmp_path / task)
        states.append({name: tensor.clone() for name, tensor in state_of(adapted.merge_and_unload()).items()})
    world("average")
    made = exported("average")
    assert not (made / "adapter_config.json").exists()
    mean = {name: (tensor + states[1][name]) / 2 for name, tensor in states[0].items()}
    close(loaded(made), mean, error=1e-5)


def test_another_merge_of_adapters_is_a_model(world, adapters, model, base):
    world({"ties": {"density": 0.5}})
    folder = exported("ties@density=0.5")
    deltas = {task: read_adapter(Path(task), held(model)).values for task in PAIR}
    changed = {name: base[name] for name in deltas["cola"]}
    close(loaded(folder), {**base, **remerge.merge("ties", changed, deltas, density=0.5)}, error=1e-5)
    assert not (folder / "adapter_config.json").exists()


@pytest.mark.parametrize("adapted", [False, True])
def test_heads_of_the_subset_go_with_it(world, folder, base, adapted):
    heads = {}
    for seed, (task, classes) in enumerate(TASKS.items()):
        torch.manual_seed(seed)
        expert = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=classes)
        heads[task] = expert.score.weight.detach().clone()
        if adapted:
            config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["score"])
            expert = get_peft_model(expert, config)
        expert.save_pretrained(folder.parent / task)
    world("average", family="classifier")
    made = exported("average", "mnli+sst2")
    assert {file.name for file in (made / "heads").iterdir()} == {"mnli.safetensors", "sst2.safetensors"}
    assert not [name for name in stored_tensors(made) if "score" in name]
    for task in ("mnli", "sst2"):
        source = "model" if adapted else made
        body = AutoModelForSequenceClassification.from_pretrained(source, num_labels=TASKS[task])
        body.load_state_dict(load_file(made / f"heads/{task}.safetensors"), strict=False)
        found = state_of(PeftModel.from_pretrained(body, made).merge_and_unload() if adapted else body)
        assert torch.equal(found.pop("score.weight"), heads[task])
        close(found, base)
    assert not (made / RECIPE).exists()


@pytest.mark.parametrize(
    ("variant", "subset", "words"),
    [
        ("tise", "cola+mnli", "unknown variant 'tise', did you mean ties?"),
        ("ties", "cola+mnly", "unknown task 'mnly', did you mean mnli?"),
        ("ties", "mnli+cola", "name its tasks sorted, each once: cola+mnli"),
        ("ties", "cola", "name two or more tasks of cola, mnli"),
        ("ties", "cola+cola", "name two or more tasks of cola, mnli"),
    ],
)
def test_a_wrong_export_is_one_line(world, expert_folders, capsys, variant, subset, words):
    world("ties")
    assert main(["exports", "w.yaml", variant, subset]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not Path("results/w/exports").exists()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def save(folder, full=False):
        (folder / "a").write_text(str(full))
        if full:
            raise OSError(28, "No space left on device")

    write_folder(tmp_path / "x/y", save)
    with pytest.raises(UserError, match=r"cannot write .*x/y: No space left"):
        write_folder(tmp_path / "x/y", partial(save, full=True))
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]
    assert (tmp_path / "x/y/a").read_text() == "False"
