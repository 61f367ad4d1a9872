"""Merges of folders without a pipeline: what is written is the merge, and wrong folders are refused."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from loading import close, loaded
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

import remerge
from remerge.__main__ import main
from remerge.checkpoints.models import state_of
from remerge.folders import output
from remerge.folders.card import markdown

TASKS = {"cola": 2, "mnli": 3, "sst2": 2}
PAIR = ["cola", "mnli"]
pytestmark = pytest.mark.usefixtures("folder")


def merge(*arguments, base="model", experts=PAIR, out="merged", method="ties"):
    lines = [["--method", method, "--base", base, "--out", out], *(["--expert", e] for e in experts)]
    return main(["merge", *(word for line in lines for word in line), *arguments])


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("ties", {"density": 0.3}),
        ("task_arithmetic", {"scale": [0.5, -0.4]}),
        ("dare", {"seed": 3}),
        ("slerp", {}),
        ("drm_h", {"pruning": "individual"}),
    ],
)
def test_a_merge_of_folders(here, expert_folders, base, method, params):
    words = [word for key, value in params.items() for word in ("--param", f"{key}={value}")]
    assert merge(*words, method=method) == 0
    close(loaded("merged"), remerge.merge(method, base, {t: expert_folders[t] for t in PAIR}, **params))
    assert AutoTokenizer.from_pretrained("merged")("the cat").input_ids
    assert GenerationConfig.from_pretrained("merged")
    card = ModelCard.load("merged/README.md")
    assert card.data.base_model is None and "| the base | model |" in card.text
    assert f"--method {method}" in card.text
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_experts_have_the_names_that_they_are_given(here, expert_folders):
    """By which numbers are given for each; a folder may have an = in its name."""
    shutil.copytree("mnli", "x=1")
    ways = {"merged": (("a=cola", "x=1"), "{'a': 0.2, 'x=1': 0.7}"), "other": (("cola", "x=1"), "[0.2, 0.7]")}
    for out, (experts, scale) in ways.items():
        assert merge("--param", f"scale={scale}", experts=experts, out=out, method="task_arithmetic") == 0
    close(loaded("merged"), loaded("other"))
    assert "--expert a=cola" in Path("merged/README.md").read_text()


def test_shards_go_in_and_out(here, expert_folders, base, folder, monkeypatch):
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained("sharded", max_shard_size="5KB")
    assert len(list(Path("sharded").glob("*.safetensors"))) > 2
    monkeypatch.setattr(output, "SHARD", "7KB")
    assert merge("--dtype", "bfloat16", base="sharded", method="average") == 0
    index = json.loads(Path("merged/model.safetensors.index.json").read_text())
    files = {path.name for path in Path("merged").glob("*.safetensors")}
    assert set(index["weight_map"].values()) == files
    assert len(files) > 2
    found = AutoModelForCausalLM.from_pretrained("merged")
    assert found.dtype == torch.bfloat16
    expected = remerge.merge("average", base, {t: expert_folders[t] for t in PAIR})
    close(state_of(found), {name: tensor.bfloat16() for name, tensor in expected.items()}, error=0)


def test_experts_of_another_dtype_are_not_rounded(here, expert_folders, base):
    name = "model.layers.0.mlp.up_proj.weight"
    state = load_file("model/model.safetensors")
    save_file({k: v.bfloat16() for k, v in state.items()}, "model/model.safetensors", {"format": "pt"})
    assert merge("--dtype", "float32", method="average") == 0
    mean = (expert_folders["cola"][name] + expert_folders["mnli"][name]) / 2
    torch.testing.assert_close(loaded("merged")[name], mean, atol=1e-6, rtol=0)


def test_numbers_that_a_dtype_cannot_hold_are_refused_where_nothing_is_merged_too(here, folder, capsys):
    adapted(folder)
    state = {n: t.bfloat16() for n, t in load_file(folder / "model.safetensors").items()}
    state["model.norm.weight"] *= 1e9
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    assert merge("--dtype", "float16", experts=["lora"], method="average") == 2
    assert "model.norm.weight: too large for float16" in capsys.readouterr().err


def test_settings_in_which_an_expert_computes_differently_are_named(here, expert_folders, capsys):
    for name, changed in {"rms_norm_eps": 1e-5, "attention_dropout": 0.1, "eos_token_id": 7}.items():
        file = Path("mnli/config.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), name: changed}))
    assert merge(method="average") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "not the same" in line]
    assert notes == ["remerge: rms_norm_eps: not the same in mnli: the base's is kept"]


def adapted(folder, auto=AutoModelForCausalLM, **settings):
    """A random adapter, saved in `lora`, and what PEFT makes of it and the base."""
    torch.manual_seed(settings.pop("seed", 0))
    config = LoraConfig(**{"r": 3, "target_modules": ["q_proj"], "init_lora_weights": False, **settings})
    model = get_peft_model(auto.from_pretrained(folder), config)
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += torch.randn(parameter.shape)
    model.save_pretrained("lora")
    return {name: tensor.clone() for name, tensor in state_of(model.merge_and_unload()).items()}


def test_adapters_merge_with_models(here, expert_folders, base, folder):
    whole = adapted(folder)
    assert merge(experts=["cola", "lora"], method="task_arithmetic") == 0
    close(loaded("merged"), remerge.merge("task_arithmetic", base, [expert_folders["cola"], whole]), 1e-5)


def two_adapted(folder, **settings):
    """Two random adapters of an untied base, in `lora1` and `lora2`."""
    AutoModelForCausalLM.from_pretrained(folder, tie_word_embeddings=False).save_pretrained("model")
    for seed in (1, 2):
        adapted("model", seed=seed, **settings)
        Path("lora").rename(f"lora{seed}")
    return ["lora1", "lora2"]


@pytest.mark.parametrize(
    ("method", "targets"),
    [
        ("average", ["q_proj", "embed_tokens"]),
        ("metagpt", ["q_proj", "embed_tokens"]),
        ("multi_slerp", ["k_proj"]),
        ("knots", ["k_proj", "up_proj"]),
        ("tsv_m", ["o_proj"]),
        ("cart", ["q_proj", "embed_tokens"]),
        ("iso_c", ["q_proj", "embed_tokens"]),
        ("drm_v", ["k_proj", "up_proj"]),
    ],
)
def test_a_merge_of_adapters_as_an_adapter(here, folder, method, targets):
    experts = two_adapted(folder, target_modules=targets, task_type="CAUSAL_LM")
    assert merge(experts=experts, method=method) == 0
    assert merge("--adapter", experts=experts, method=method, out="one") == 0
    found = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("model"), "one")
    close(state_of(found.merge_and_unload()), loaded("merged"), error=1e-5)
    assert json.loads(Path("one/adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    assert not Path("one/config.json").exists()
    card = ModelCard.load("one/README.md")
    assert card.data.library_name == "peft" and "--adapter" in card.text


def test_an_adapter_of_one_of_two_tied_modules_would_untie_them(here, folder, capsys):
    config = LoraConfig(r=3, target_modules=["embed_tokens", "lm_head"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    words, head = model.base_model.model.model.embed_tokens, model.base_model.model.lm_head
    head.lora_A["default"].weight.data = words.lora_embedding_B["default"].data.T.contiguous()
    head.lora_B["default"].weight.data = words.lora_embedding_A["default"].data.T.contiguous()
    model.save_pretrained("lora")
    changed = words.weight + words.get_delta_weight("default")
    assert merge(experts=["lora"], method="average") == 0
    assert torch.allclose(loaded("merged")["model.embed_tokens.weight"], changed, atol=1e-5)
    assert merge("--adapter", experts=["lora"], method="average", out="one") == 2
    assert "--adapter: average of these experts is no adapter of the base" in capsys.readouterr().err


def test_factors_are_stored_in_the_dtype_asked_for(here, folder, capsys):
    experts = two_adapted(folder)
    given = ["--adapter", "--param", "scale=100"]
    assert merge(*given, "--dtype", "bfloat16", experts=experts, method="task_arithmetic") == 0
    stored = load_file("merged/adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    large = {name: tensor * 3000 for name, tensor in load_file("lora1/adapter_model.safetensors").items()}
    save_file(large, "lora1/adapter_model.safetensors", {"format": "pt"})
    half = ["--dtype", "float16"]
    assert merge(*given, *half, experts=experts, method="task_arithmetic", out="half") == 2
    assert "too large for float16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "experts", "targets"),
    [
        ("ties", ["lora1", "lora2"], ["q_proj"]),
        ("wudi", ["lora1", "lora2"], ["q_proj"]),
        ("doge", ["lora1", "lora2"], ["q_proj"]),
        ("average", PAIR, ["q_proj"]),
        ("average", ["lora1", PAIR[0]], ["q_proj"]),
        ("knots", ["lora1", "lora2"], ["embed_tokens"]),
    ],
)
def test_what_is_no_adapter_is_not_written_as_one(
    here, folder, expert_folders, capsys, method, experts, targets
):
    two_adapted(folder, target_modules=targets)
    for task in PAIR:
        AutoModelForCausalLM.from_pretrained(task, tie_word_embeddings=False).save_pretrained(task)
    assert merge("--adapter", experts=experts, method=method) == 2
    said = capsys.readouterr().err
    assert f"--adapter: {method} of these experts is no adapter of the base" in said
    assert "neither tied tensors nor embeddings, by a linear method or a decomposition other than" in said
    assert not Path("merged").exists()


def test_an_adapter_that_names_another_base_of_the_hub(here, folder, capsys):
    snapshot = Path("hub/models--org--base/snapshots/1f")
    shutil.copytree(folder, snapshot)
    adapted(folder)
    config = Path("lora/adapter_config.json")
    for out, named in enumerate(("org/chat", "org/base", str(folder))):
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": named}))
        assert merge(base=str(snapshot), experts=["lora"], method="average", out=f"to/{out}") == 0
        told = "remerge: org/chat: the base of lora: merged into the given one all the same"
        assert (told in capsys.readouterr().err) == (named == "org/chat")


def test_a_head_beside_an_adapter_is_merged(here, folder):
    auto = AutoModelForSequenceClassification
    auto.from_pretrained(folder, num_labels=4).save_pretrained("headed")
    whole = adapted("headed", auto, modules_to_save=["score"])
    assert merge(base="headed", experts=["lora"], method="average") == 0
    close(loaded("merged", auto), whole, 1e-5)


def test_heads_that_the_base_lacks_lie_beside_the_merge(here, folder, base, expert_folders, capsys):
    auto = AutoModelForSequenceClassification
    for task in PAIR:
        auto.from_pretrained(task, num_labels=TASKS[task]).save_pretrained(f"{task}-head")
    heads = [f"{task}-head" for task in PAIR]
    expected = remerge.merge("ties", base, {t: expert_folders[t] for t in PAIR})
    capsys.readouterr()
    assert merge(experts=heads) == 0
    assert "remerge: score: only in cola-head: kept in heads/cola-head.safetensors" in capsys.readouterr().err
    close(loaded("merged"), expected)
    for task in PAIR:
        model = auto.from_pretrained("merged", num_labels=TASKS[task])
        model.load_state_dict(load_file(f"merged/heads/{task}-head.safetensors"), strict=False)
        own = load_file(f"{task}-head/model.safetensors")["score.weight"]
        close(state_of(model), {**expected, "score.weight": own})
    assert "`heads/cola-head.safetensors`" in ModelCard.load("merged/README.md").text


def test_heads_of_another_width_than_the_base_s(here, folder, base, expert_folders, capsys):
    auto = AutoModelForSequenceClassification
    auto.from_pretrained(folder, num_labels=4).save_pretrained("headed")
    adapted("cola", auto, modules_to_save=["score"])
    for task in PAIR:
        auto.from_pretrained(task, num_labels=TASKS[task]).save_pretrained(f"{task}-head")
    capsys.readouterr()
    assert merge(base="headed", experts=[f"{task}-head" for task in PAIR]) == 0
    assert (
        "score: missing from the experts, or of other shapes or classes in them: the base's is kept"
        in capsys.readouterr().err
    )
    own = load_file("headed/model.safetensors")["score.weight"]
    expected = remerge.merge("ties", base, {t: expert_folders[t] for t in PAIR})
    close(loaded("merged", auto), {**expected, "score.weight": own})
    found = load_file("merged/heads/mnli-head.safetensors")
    assert torch.equal(found["score.weight"], load_file("mnli-head/model.safetensors")["score.weight"])
    assert merge(base="headed", experts=["lora"], out="again") == 0
    assert load_file("again/heads/lora.safetensors")["score.weight"].shape == (2, 16)


def test_a_head_of_the_bases_width_beside_one_of_another_is_kept_too(here, folder, expert_folders):
    auto = AutoModelForSequenceClassification
    auto.from_pretrained(folder, num_labels=4).save_pretrained("headed")
    for name, width in {"cola": 2, "mnli": 4}.items():
        auto.from_pretrained(name, num_labels=width).save_pretrained(f"{name}-head")
    trained = {"lora": adapted("headed", auto, modules_to_save=["score"])}
    Path("lora").rename("saved")
    trained |= {"saved": trained.pop("lora"), "lora": adapted("headed", auto, target_modules=["score"])}
    trained["mnli-head"] = load_file("mnli-head/model.safetensors")
    assert merge(base="headed", experts=["cola-head", "mnli-head", "saved", "lora"], method="average") == 0
    for name, state in trained.items():
        found = load_file(f"merged/heads/{name}.safetensors")
        close(found, {"score.weight": state["score.weight"]}, error=1e-5)
    assert torch.equal(loaded("merged", auto)["score.weight"], loaded("headed", auto)["score.weight"])


def cut(path):
    Path(path).write_bytes(Path(path).read_bytes()[:-40])


@pytest.mark.parametrize(
    ("given", "arguments", "words"),
    [
        ({"method": "tise"}, [], "unknown method 'tise', did you mean ties?"),
        ({}, ["--param", "densty=0.2"], "unknown parameter densty, the nearest known is density"),
        ({}, ["--param", "density=2"], "density must be"),
        ({}, ["--param", "density"], "write name=value"),
        ({"method": "divmerge"}, [], "divmerge needs inputs: name it in a configuration"),
        ({"method": "fisher"}, [], "fisher needs statistics of the experts"),
        ({}, ["--param", "density=0.1", "--param", "density=0.2"], "density is given twice"),
        ({"out": "cola"}, [], "cola exists and is not empty"),
        ({"out": "w.txt"}, [], "w.txt exists and is not empty"),
        ({"out": "w.txt/merged"}, [], "cannot write w.txt/merged"),
        ({"method": "average"}, ["--param", "weights=[1,-2]"], "one float in [0, 1e+09] per expert or one"),
        ({"experts": ["cola", "cola"]}, [], "given twice"),
        ({"experts": ["cola", "./model/../cola/"]}, [], "given twice"),
        ({"experts": ["cola", "a=./cola"]}, [], "given twice"),
        ({"experts": ["a=cola", "a=sst2"]}, [], "--expert: a is the name of two: give another one"),
        ({"experts": ["cola", "./missing"]}, [], "./missing: no such folder"),
        (
            {"experts": ["cola", "narrow"]},
            [],
            "is [48, 12], but [427, 16] by config.json",
        ),
        ({"experts": ["cola", "cut"]}, [], "incomplete or damaged"),
        ({"experts": ["cola", "other"]}, [], "other: tensor lm_head.weight is missing: incomplete"),
        ({"experts": ["cola", "less"]}, [], "less: tensor model.norm.weight is missing"),
        ({"experts": ["cola", "nan"]}, [], "expert nan: model.norm.weight contains NaN"),
        ({"base": "empty"}, [], "empty: no model.safetensors and no index"),
        ({"method": "slerp", "experts": ["cola", "mnli", "sst2"]}, [], "slerp takes two experts"),
    ],
)
def test_a_wrong_merge_is_one_line(here, expert_folders, capsys, monkeypatch, given, arguments, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("w.txt").write_text("mine")
    Path("empty").mkdir()
    state = load_file("cola/model.safetensors")
    norm = "model.norm.weight"
    for name, changed in {
        "narrow": {n: t[:48, :12] if t.ndim == 2 else t for n, t in state.items()},
        "cut": state,
        "other": {f"bert.{n}": t for n, t in state.items()},
        "less": {n: t for n, t in state.items() if n != norm},
        "nan": {**state, norm: state[norm] * float("nan")},
    }.items():
        Path(name).mkdir()
        save_file({n: t.contiguous() for n, t in changed.items()}, f"{name}/model.safetensors")
    cut("cut/model.safetensors")
    before = sorted(Path().iterdir())
    assert merge(*arguments, **given) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("remerge:")]
    assert words in line
    assert sorted(Path().iterdir()) == before


def test_the_folder_of_the_shell_is_not_taken_from_under_it(
    tmp_path, expert_folders, folder, monkeypatch, capsys
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert merge(base=str(folder), experts=[str(folder / ".." / "cola")], out=".") == 2
    assert ". is the folder in which remerge was called" in capsys.readouterr().err
    assert not any(Path().iterdir())


def test_a_cell_of_a_card_is_one_cell():
    assert markdown([("a", "b|c"), ("d\n", 1)]).splitlines() == [
        r"| a | b\|c |",
        "| --- | --- |",
        "| d | 1 |",
    ]


def test_the_command_in_a_card_reads_as_it_was_given(here, expert_folders):
    Path("model").rename("the model")
    given = ["--param", "scale=[0.5, 0.4]"]
    assert merge(*given, base="the model", method="task_arithmetic") == 0
    said = ModelCard.load("merged/README.md").text.partition("```sh\n")[2].partition("```")[0]
    words = shlex.split(said)
    assert words[words.index("--base") + 1] == "the model"
    assert words[words.index("--param") + 1] == "scale=[0.5, 0.4]"


def test_folders_of_one_name_are_told_apart_by_what_is_above_them(here, expert_folders, tmp_path):
    """Wherever they are, so that random masks stay, too; no card has more of the path."""
    for task in PAIR:
        shutil.copytree(task, f"{task}-run/checkpoint-9")
    found = []
    for out, root in (("relative", "."), ("absolute", tmp_path)):
        experts = [f"{root}/{task}-run/checkpoint-9" for task in PAIR]
        assert merge(experts=experts, out=out, method="dare") == 0
        card = ModelCard.load(f"{out}/README.md").content
        assert f"| {PAIR[0]}-run/checkpoint-9 | checkpoint-9 |" in card and str(tmp_path) not in card
        found.append(load_file(f"{out}/model.safetensors"))
    close(*found, 0)


def test_a_card_names_the_hub_and_no_folder_of_this_machine(here, expert_folders, tmp_path):
    for name in ("model", PAIR[0]):  # which was trained from it
        file = Path(name) / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"_name_or_path": "org/base"}))
    experts = [str(Path(name).resolve()) for name in PAIR]
    assert merge(base=str(Path("model").resolve()), experts=experts, method="average") == 0
    card = ModelCard.load("merged/README.md")
    assert card.data.base_model == ["org/base"]
    assert card.data.base_model_relation == "merge"
    assert all(f"| {name} | {name} |" in card.text for name in PAIR)
    assert all(f"--expert {name}" in card.text for name in PAIR) and "--base org/base" in card.text
    assert str(Path.cwd()) not in card.content
