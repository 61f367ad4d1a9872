"""mergekit's files: what is read of one is what mergekit makes of it; what is written makes it again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from loading import close
from masks import same_masks
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from remerge.__main__ import main
from remerge.folders.recipe import RECIPE

PAIR = [{"model": "cola"}, {"model": "mnli"}]
DIFFERENCES = {"base_model": "model", "models": PAIR}


def weighed(*weights, **more):
    return [
        {"model": model, "parameters": {"weight": weight, **more}}
        for model, weight in zip(("cola", "mnli", "sst2"), weights, strict=False)
    ]


@pytest.fixture
def here(here, expert_folders, tokenizer):
    for expert in expert_folders:
        tokenizer.save_pretrained(expert)


def merged(raw):
    Path("mergekit.yml").write_text(yaml.safe_dump(raw))
    return main(["mergekit", "mergekit.yml", "--out", "merged"])


def theirs(raw):
    recipe = MergeConfiguration.model_validate(raw)
    run_merge(recipe, "theirs", MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True))
    return load_file("theirs/model.safetensors")


def as_slices(models, *ranges, **parameters):
    """The same models in slices, with parameters of each slice by their names, one for each."""
    made = [{"sources": [{**model, "layer_range": r} for model in models]} for r in ranges]
    for k, entry in enumerate(made):
        entry["parameters"] = {name: values[k] for name, values in parameters.items()}
    return made


BY_NAME = [{"filter": "self_attn", "value": [0, 0.8]}, {"filter": "mlp", "value": "0.3"}, {"value": 0.5}]

FILES = {
    "slerp, as mergekit's README has it": {
        "merge_method": "slerp",
        "base_model": "cola",
        "slices": as_slices(PAIR, [0, 2]),
        "parameters": {"t": BY_NAME},
    },
    "slerp, the base second, two slices": {
        "merge_method": "slerp",
        "base_model": "mnli",
        "slices": as_slices(PAIR, [0, 1], [1, 2], t=[[0.1, 0.4], 0.9]),
    },
    "ties, as mergekit's README has it": {
        "merge_method": "ties",
        "base_model": "model",
        "models": [
            {"model": "cola", "parameters": {"density": [1, 0.7, 0.1], "weight": 1.0}},
            {"model": "mnli", "parameters": {"density": 0.5, "weight": [0, 0.3, 0.7, 1]}},
            {
                "model": "sst2",
                "parameters": {"density": 0.33, "weight": [{"filter": "mlp", "value": 0.5}, {"value": 0}]},
            },
        ],
        "parameters": {"normalize": True, "int8_mask": True},
    },
    "ties, a model of which nothing is left": {
        "merge_method": "ties",
        "base_model": "model",
        "models": [*weighed(0.5, density=0), *weighed(1, 0.4, density=1.5)[1:]],
        "parameters": {"normalize": False, "lambda": [{"filter": "*", "value": [1, 0.5]}]},
    },
    "linear, a gradient, other models in each slice": {
        "merge_method": "linear",
        "slices": [
            {"sources": [{**s, "layer_range": [0, 1]} for s in weighed([1, 5], 3)]},
            {"sources": [{**s, "layer_range": [1, 2]} for s in weighed(1, 1, 2)[1:]]},
        ],
    },
    "task arithmetic, conditions that do not apply": {
        "merge_method": "task_arithmetic",
        "base_model": "model",
        "models": [
            *weighed([{"filter": "mlp", "value": 0.9}]),
            *weighed(0, {"filter": "norm", "value": 2})[1:],
        ],
        "parameters": {"weight": [0.1, 0.2], "normalize": [True, False], "lambda": 0.7},
    },
    "breadcrumbs, of each layer its own density": {
        "merge_method": "breadcrumbs",
        "base_model": "model",
        "models": weighed(0.6, 0.5),
        "parameters": {"density": [0.3, 0.8], "gamma": 0.1},
    },
    "linear": {"merge_method": "linear", "models": weighed(1, 3)},
    "linear, sum 1": {
        "name": "ours",
        "merge_method": "linear",
        "models": weighed(0.3, 0.7),
        "parameters": {"normalize": False},
    },
    "linear, with the base": {
        "merge_method": "linear",
        "base_model": "model",
        "models": [{"model": "model"}, *weighed(0.5, 1)],
        "parameters": {"weight": 2},
    },
    "task arithmetic": {
        "merge_method": "task_arithmetic",
        "base_model": "model",
        "models": [{"model": "model"}, *weighed(0.5, "-4e-1", 0.2)],
        "parameters": {"lambda": 0.9, "int8_mask": True},
        "tokenizer_source": "base",
    },
    "task arithmetic, normalised": {
        "merge_method": "task_arithmetic",
        "base_model": "model",
        "models": weighed(0.5, 0.4),
        "parameters": {"normalize": True},
    },
    "ties": {
        "merge_method": "ties",
        **DIFFERENCES,
        "parameters": {"weight": 0.3, "density": 0.4, "lambda": 0.7},
    },
    "ties, sums": {
        "merge_method": "ties",
        "base_model": "model",
        "models": weighed(0.5, 0.5, 0.5, density=0.6),
        "parameters": {"normalize": False},
    },
    "ties of everything": {"merge_method": "ties", "base_model": "model", "models": weighed(1, 1)},
    "breadcrumbs": {
        "merge_method": "breadcrumbs",
        "base_model": "model",
        "models": weighed(0.5, -0.2, 0.4, density=0.6, gamma=0.05),
        "parameters": {"lambda": 0.8, "normalize": True, "int8_mask": True},
    },
    "breadcrumbs of everything": {
        "merge_method": "breadcrumbs",
        **DIFFERENCES,
        "parameters": {"weight": 0.4, "rescale": False},
    },
    "dare_ties, as mergekit's examples have it": {
        "merge_method": "dare_ties",
        "base_model": "model",
        "models": [
            {"model": "model"},
            *weighed(-0.5, density=[0.5, 0.3]),
            {"model": "mnli", "parameters": {"density": 0.7, "weight": [0.3, 0.6]}},
        ],
        "parameters": {"int8_mask": True},
    },
    "dare_ties, normalised, a model that is kept whole and one of which nothing is": {
        "merge_method": "dare_ties",
        "base_model": "model",
        "models": [*weighed(0.5, density=1.2), *weighed(1, 0.4, density=0)[1:], *weighed(1, 1, 0.8)[2:]],
        "parameters": {"density": 0.4, "normalize": True, "rescale": False, "lambda": 0.7},
    },
    "dare_linear": {
        "merge_method": "dare_linear",
        "base_model": "model",
        "models": weighed(0.5, -0.2, 0.4),
        "parameters": {"density": [{"filter": "mlp", "value": 0.2}, {"value": 0.6}], "lambda": 0.9},
    },
    "dare_linear, normalised with the weight of a model of which nothing is kept": {
        "merge_method": "dare_linear",
        "base_model": "model",
        "models": [*weighed(0.5, density=0), *weighed(1, 0.3)[1:]],
        "parameters": {"density": 0.5, "normalize": True, "rescale": False},
    },
    "della": {
        "merge_method": "della",
        "base_model": "model",
        "models": [*weighed(0.5, density=0.6, epsilon=0.3), *weighed(1, 0.4)[1:]],
        "parameters": {"density": 0.5},
    },
    "della, sums": {
        "merge_method": "della",
        "base_model": "model",
        "models": [
            *weighed(0.5, density=1),
            *weighed(1, 0.4, density=0, epsilon=0.9)[1:],
            *weighed(1, 1, 1)[2:],
        ],
        "parameters": {"density": 0.3, "epsilon": [0.2, 0], "normalize": False, "rescale": False},
    },
    "della_linear": {
        "merge_method": "della_linear",
        "base_model": "model",
        "models": weighed(0.5, -0.3, density=0.4),
        "parameters": {"epsilon": 0.1, "lambda": 1.1, "normalize": True},
    },
    "breadcrumbs_ties": {
        "merge_method": "breadcrumbs_ties",
        "base_model": "model",
        "models": weighed(0.5, 0.2, 0.4, density=0.6),
        "parameters": {"lambda": 0.8, "gamma": [0.1, 0.05], "int8_mask": True},
    },
    "breadcrumbs_ties, normalised, of everything": {
        "merge_method": "breadcrumbs_ties",
        **DIFFERENCES,
        "parameters": {"weight": [0.4, 1], "normalize": True, "rescale": False},
    },
    "ram": {"merge_method": "ram", **DIFFERENCES, "parameters": {"epsilon": [0.02, 0.05]}},
    "ram of all changes": {
        "merge_method": "ram",
        "base_model": "model",
        "models": [*PAIR, {"model": "sst2"}],
    },
    "ramplus_tl": {"merge_method": "ramplus_tl", **DIFFERENCES, "parameters": {"epsilon": 0.03}},
    "ramplus_tl, its parameters": {
        "merge_method": "ramplus_tl",
        **DIFFERENCES,
        "parameters": {"epsilon": 0.05, "r": 0.3, "alpha": 2},
    },
    "sce": {"merge_method": "sce", **DIFFERENCES, "parameters": {"select_topk": 0.3}},
    "sce of everything": {"merge_method": "sce", **DIFFERENCES, "parameters": {"int8_mask": True}},
    "nuslerp": {
        "merge_method": "nuslerp",
        "base_model": "model",
        "models": weighed(0.9, 0.3),
        "parameters": {"nuslerp_row_wise": False, "nuslerp_flatten": True},
    },
    "nuslerp of weights": {"merge_method": "nuslerp", "models": PAIR, "parameters": {"weight": 0.7}},
    "nearswap": {
        "merge_method": "nearswap",
        "base_model": "mnli",
        "models": PAIR,
        "parameters": {"t": 0.01},
    },
    "karcher": {"merge_method": "karcher", "models": [*PAIR, {"model": "sst2"}]},
    "karcher, with the base": {
        "merge_method": "karcher",
        "base_model": "mnli",
        "models": PAIR,
        "parameters": {"max_iter": 1000, "tol": 1e-9},
    },
    "slerp": {
        "merge_method": "slerp",
        "base_model": "mnli",
        "models": PAIR,
        "parameters": {"t": 0.3},
    },
    "multislerp": {"merge_method": "multislerp", "base_model": "model", "models": weighed(0.9, 0.3)},
    "model stock": {"merge_method": "model_stock", **DIFFERENCES, "parameters": {"filter_wise": False}},
}


@pytest.mark.parametrize("name", FILES)
def test_it_makes_what_mergekit_makes(here, monkeypatch, name):
    same_masks(monkeypatch)
    raw = {**FILES[name], "dtype": "float32"}
    assert merged(raw) == 0
    found = load_file("merged/model.safetensors")
    close(found, theirs(raw), 1e-5)
    # What is written beside the merge makes it once more, here and there.
    again = yaml.safe_load(Path("merged", RECIPE).read_text())
    close(theirs(again), found, 1e-5)
    assert main(["mergekit", f"merged/{RECIPE}", "--out", "again"]) == 0
    close(load_file("again/model.safetensors"), found)


def test_random_masks_are_of_a_seed(here, capsys, monkeypatch):
    """Which mergekit's are not, as a line and the card say."""
    raw = {"merge_method": "dare_ties", **DIFFERENCES, "parameters": {"weight": 0.5, "density": 0.4}}
    raw["dtype"] = "float32"
    command = ["mergekit", "mergekit.yml", "--out"]
    assert merged(raw) == 0
    assert "mergekit draws its random masks anew at every run, remerge does not" in capsys.readouterr().err
    assert main([*command, "zero", "--seed", "0"]) == 0 == main([*command, "nine", "--seed", "9"])
    found, zero, nine = (load_file(f"{f}/model.safetensors") for f in ("merged", "zero", "nine"))
    close(zero, found, 0)
    assert not any(torch.equal(nine[name], found[name]) for name in found)
    same_masks(monkeypatch, seed=9)
    close(nine, theirs(raw), 1e-5)
    for folder, seed in (("merged", 0), ("nine", 9)):
        card = Path(folder, "README.md").read_text()
        assert f"The random masks were drawn with seed {seed}, by the names of models" in card
        assert f"| seed | {seed} |" in card


def test_without_masks_nothing_is_random(here, capsys):
    raw = {"merge_method": "dare_ties", **DIFFERENCES, "parameters": {"weight": 0.5}}
    assert merged(raw) == 0
    assert "masks" not in capsys.readouterr().err + Path("merged/README.md").read_text()
    assert main(["mergekit", "mergekit.yml", "--out", "again", "--seed", "1"]) == 0
    close(load_file("again/model.safetensors"), load_file("merged/model.safetensors"), 0)
    Path("mergekit.yml").write_text(yaml.safe_dump({**raw, "merge_method": "ties"}))
    assert main(["mergekit", "mergekit.yml", "--out", "more", "--seed", "1"]) == 2
    assert "mergekit.yml: ties draws no random masks: leave --seed out" in capsys.readouterr().err


def test_rows_that_mergekit_ranks_otherwise(here, capsys, tokenizer):
    """DELLA's, of tensors with more dimensions, as convolutions have them; others are merged."""
    for name in ("mamba", "mamba-2"):
        size = {"vocab_size": len(tokenizer), "hidden_size": 8, "state_size": 4}
        model = MambaForCausalLM(MambaConfig(**size, num_hidden_layers=1))
        save_drawn(model, name)
    models = [{"model": "mamba-2", "parameters": {"weight": 1}}]
    raw = {"merge_method": "della", "base_model": "mamba", "models": models, "dtype": "float32"}
    told = (
        "density: backbone.layers.0.mixer.conv1d.weight has more than two dimensions, and della in mergekit"
    )
    assert told in refused({**raw, "parameters": {"density": 0.5}}, capsys)
    whole = [{"filter": "conv1d.weight", "value": 1}, {"value": 0.5}]
    assert merged({**raw, "parameters": {"density": whole}}) == 0


def test_weights_are_written_in_the_dtype_that_it_names(here):
    raw = {**FILES["linear"], "dtype": "float32", "out_dtype": "bfloat16"}
    assert merged(raw) == 0
    assert yaml.safe_load(Path("merged", RECIPE).read_text())["out_dtype"] == "bfloat16"
    close(load_file("merged/model.safetensors"), theirs(raw), 0.01)


def test_models_in_the_long_form(here, tokenizer):
    """As mergekit's cards have them, and as folders need it whose names it would take apart."""
    for name in ("cola+mnli", "mnli@1"):
        saved(name, AutoModelForCausalLM.from_pretrained(name[:4]), tokenizer)
    line = ["--method", "task_arithmetic", "--base", "model", "--expert", "cola+mnli", "--expert", "mnli@1"]
    assert main(["merge", *line, "--out", "merged"]) == 0
    found, written = load_file("merged/model.safetensors"), Path("merged", RECIPE)
    close(theirs(yaml.safe_load(written.read_text())), found, 1e-5)
    assert main(["mergekit", str(written), "--out", "again"]) == 0
    close(load_file("again/model.safetensors"), found)
    raw = {**FILES["linear"], "base_model": {"model": {"path": "cola", "revision": None}, "lora": None}}
    shutil.rmtree("merged")
    assert merged(raw) == 0


def test_another_architecture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    size = {"vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2}
    # mergekit knows T5 1.1 alone.
    config = T5Config(**size, feed_forward_proj="gated-gelu", decoder_start_token_id=0)
    for seed, name in enumerate(("model", "cola", "mnli")):
        torch.manual_seed(seed)
        T5ForConditionalGeneration(config).save_pretrained(name)
    line = ["--method", "task_arithmetic", "--base", "model", "--expert", "cola", "--expert", "mnli"]
    assert main(["merge", *line, "--out", "merged"]) == 0
    theirs(yaml.safe_load(Path("merged", RECIPE).read_text()))
    ours, other = (AutoModelForSeq2SeqLM.from_pretrained(f).state_dict() for f in ("merged", "theirs"))
    close(ours, other, 1e-5)


def test_of_heads_and_of_what_only_remerge_makes_nothing_is_written(here):
    line = ["--base", "model", "--expert", "cola", "--expert", "mnli"]
    assert main(["merge", "--method", "dare", *line, "--out", "drawn"]) == 0
    for name in ("cola", "mnli"):
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
        model.save_pretrained(name)
    AutoModelForCausalLM.from_pretrained("model").save_pretrained("model")
    assert main(["merge", "--method", "average", *line, "--out", "headed"]) == 0
    for folder in ("drawn", "headed"):
        assert not Path(folder, RECIPE).exists()
        assert RECIPE not in Path(folder, "README.md").read_text()


def saved(name, model, tokenizer):
    """A folder under a name that no other test has: mergekit keeps in memory what it has read."""
    model.save_pretrained(name)
    tokenizer.save_pretrained(name)
    return {"model": name, "parameters": {"weight": 1}}


def save_drawn(model, folder):
    """A model with random weights, none of which is still what it began with, such as 1 of a norm."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)


def refused(raw, capsys):
    assert merged(raw) == 2
    return capsys.readouterr().err


def test_a_model_without_a_tokenizer(here, capsys):
    """Of some architectures, as Qwen2, transformers makes an empty one, and mergekit other rows by it."""
    shutil.copytree("mnli", "mnli-bare")
    for file in Path("mnli-bare").glob("tokenizer*"):
        file.unlink()
    raw = {"merge_method": "linear", "models": [*weighed(1), *weighed(0, 3)[1:]], "dtype": "float32"}
    raw["models"][1]["model"] = "mnli-bare"
    assert merged(raw) == 0
    found = load_file("merged/model.safetensors")
    close(found, theirs(raw), 1e-5)
    shutil.rmtree("merged")
    raw["tokenizer_source"] = "base"
    told = "mergekit.yml: tokenizer: mnli-bare has no tokenizer, for which mergekit may take an empty"
    assert told in refused(raw, capsys)
    other = theirs(raw)
    assert not torch.allclose(found["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_adapters_have_the_tokenizer_of_their_base(here):
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained("model"), config).save_pretrained("adapter")
    models = [{"model": "cola"}, {"model": "adapter"}]
    shared = {"base_model": "model", "parameters": {"weight": 1}, "tokenizer_source": "base"}
    assert merged({"merge_method": "task_arithmetic", "models": models, **shared}) == 0


def test_a_union_of_the_same_tokens_is_the_bases(here, capsys):
    raw = {"merge_method": "linear", "models": weighed(1, 3), "tokenizer_source": "union"}
    assert merged(raw) == 0
    assert "remerge: " not in capsys.readouterr().err
    close(load_file("merged/model.safetensors"), theirs({**raw, "tokenizer_source": None}), 1e-5)
    for file in ("tokenizer.json", "config.json"):
        assert json.loads(Path("merged", file).read_text()) == json.loads(Path("cola", file).read_text())


def test_what_a_filter_means_elsewhere(here, capsys):
    """mergekit merges a tied head by itself if it is stored."""
    raw = {"merge_method": "linear", "models": weighed([{"filter": "lm_hea", "value": 2}, {"value": 1}], 3)}
    assert merged({**raw, "models": weighed([{"filter": "mpl", "value": 2}, {"value": 1}], 3)}) == 0
    assert "mergekit.yml: filter mpl: in the name of no tensor" in capsys.readouterr().err
    shutil.rmtree("merged")
    assert merged(raw) == 0
    close(load_file("merged/model.safetensors"), theirs(raw), 1e-5)
    for name, model in zip(("cola", "mnli"), raw["models"], strict=True):
        model["model"] = f"{name}-tied"
        shutil.copytree(name, model["model"])
        state = load_file(f"{name}/model.safetensors")
        assert "lm_head.weight" not in state
        head = {"lm_head.weight": state["model.embed_tokens.weight"].clone()}
        save_file({**state, **head}, f"{name}-tied/model.safetensors", {"format": "pt"})
    shutil.rmtree("merged")
    told = "lm_head.weight is tied to model.embed_tokens.weight, for which the file says something else"
    assert told in refused(raw, capsys)


def test_rows_without_a_token_are_kept(here, tokenizer):
    """Unless the file says anything about tokens."""
    n, models = len(tokenizer), []
    for name in ("cola", "mnli"):
        model = AutoModelForCausalLM.from_pretrained(name)
        model.resize_token_embeddings(n + 8, mean_resizing=False)
        models.append(saved(f"{name}-padded", model, tokenizer))
    for rows, more in ((n + 8, {}), (n, {"tokenizer_source": "base"})):
        raw = {"merge_method": "linear", "models": models, **more}
        assert merged(raw) == 0
        found = load_file("merged/model.safetensors")
        assert len(found["model.embed_tokens.weight"]) == rows
        close(found, theirs(raw), 1e-5)
        shutil.rmtree("merged")


def test_models_of_several_dtypes_need_a_dtype(here, tokenizer, capsys):
    """mergekit writes the widest."""
    model = AutoModelForCausalLM.from_pretrained("cola", dtype=torch.bfloat16)
    raw = {"merge_method": "linear", "models": [saved("half", model, tokenizer), *weighed(2)]}
    told = "mergekit.yml: dtype is missing, and cola is stored in another one than half: name it"
    assert told in refused(raw, capsys)
    for named in ({"dtype": "float32"}, {"out_dtype": "float32"}):
        assert merged({**raw, **named}) == 0
        close(load_file("merged/model.safetensors"), theirs({**raw, **named}), 1e-5)
        shutil.rmtree("merged")
        shutil.rmtree("theirs")


def test_a_model_has_one_spelling(here, capsys):
    """Across slices, and the base of a method that merges it."""
    raw = sliced([0, 1], [1, 2])
    raw["slices"][1]["sources"][0]["model"] = "./cola"
    assert "mergekit.yml: cola and ./cola are one model: write it alike everywhere" in refused(raw, capsys)
    raw = {"merge_method": "slerp", "base_model": "cola/", "models": PAIR, "parameters": {"t": 0.5}}
    assert "mergekit.yml: cola/ and cola are one model: write it alike everywhere" in refused(raw, capsys)


def test_what_follows_the_layers_of_an_architecture_without_a_file_of_its_own(
    tmp_path, monkeypatch, capsys, tokenizer
):
    """mergekit has it precede them, so that the first slice's models are merged there."""
    monkeypatch.chdir(tmp_path)
    size = {"vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
    config, models = OlmoConfig(**size, num_hidden_layers=2), []
    for seed, name in enumerate(("olmo-1", "olmo-2")):
        torch.manual_seed(seed)
        models.append({**saved(name, OlmoForCausalLM(config), tokenizer), "layer_range": [0, 1]})
    last = [{**model, "layer_range": [1, 2]} for model in models]
    raw = {"merge_method": "linear", "dtype": "float32", "slices": [{"sources": models}, {"sources": last}]}
    assert merged(raw) == 0
    assert "slice" not in capsys.readouterr().err
    shutil.rmtree("merged")
    models[0]["parameters"] = {"weight": 3}
    assert merged(raw) == 0
    assert "mergekit.yml: lm_head.weight: of the last slice here; of the first" in capsys.readouterr().err
    found, other = load_file("merged/model.safetensors"), theirs(raw)
    assert [name for name in found if not torch.allclose(found[name], other[name])] == ["lm_head.weight"]


def test_adapters_need_a_base(here, capsys):
    """mergekit reads none by themselves; remerge adds them to the base that the file names."""
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained("model"), config).save_pretrained("adapter")
    models = [{"model": "cola"}, {"model": "adapter"}]
    told = "mergekit.yml: adapter is an adapter, and no model is named to add it to: give a whole model"
    for raw in (
        {"merge_method": "linear", "models": models, "parameters": {"weight": 1}},
        {"merge_method": "slerp", "base_model": "cola", "models": models, "parameters": {"t": 0.5}},
        {"merge_method": "model_stock", "base_model": "adapter", "models": PAIR},
    ):
        assert told in refused(raw, capsys)
    assert merged({"merge_method": "model_stock", "base_model": "model", "models": models}) == 0


@pytest.mark.parametrize(
    ("stored", "raw", "told"),
    [
        ("float32", {"dtype": "float32", "out_dtype": "float16"}, ""),
        ("float32", {}, ""),
        ("float32", {"dtype": "float16"}, "rounds each step to 16 bits, remerge"),
        ("bfloat16", {}, "rounds each step to 16 bits, remerge"),
        ("bfloat16", {"dtype": "float32"}, ""),
        (
            "bfloat16",
            {"dtype": "float32", "density": 0.5},
            "mergekit leaves entries that tie to its sort and rounding, remerge",
        ),
        ("bfloat16", {"density": 0.5}, "rounds each step to 16 bits and leaves entries that tie"),
        ("float32", {"density": 0.5}, ""),
        (
            "bfloat16",
            {"dtype": "float32", "models": [*PAIR, {"model": "sst2"}]},
            "mergekit leaves entries that tie",
        ),
    ],
)
def test_what_differs_by_rounding_is_said(here, capsys, stored, raw, told):
    for name in ("model", "cola", "mnli", "sst2"):
        AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, stored)).save_pretrained(name)
    density = raw.pop("density", 1.0)
    capsys.readouterr()
    assert merged({**TIES, **raw, "parameters": {"weight": 1, "density": density}}) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("remerge:")]
    assert [told in line for line in lines] == ([True] if told else [])


def sliced(*ranges, **more):
    """A linear merge by slices."""
    given = [{"sources": [{**s, "layer_range": r} for s in weighed(1, 3)]} for r in ranges]
    return {"merge_method": "linear", "slices": given, **more}


TIES = {"merge_method": "ties", **DIFFERENCES}
PLAIN = {"merge_method": "linear", "models": weighed(1, 1)}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "mergekit.yml: not a mapping of keys"),
        (
            {**PLAIN, "merge_method": "arcee_fusion"},
            "merge_method: 'arcee_fusion' is not one that remerge and mergekit have",
        ),
        ({**PLAIN, "merge_method": "tise"}, "see `remerge methods` for remerge's own"),
        ({**TIES, "merge_method": "dare_ties"}, "weight of cola is missing"),
        (
            {**TIES, "merge_method": "ram", "models": weighed(1, 1)},
            "weight of cola: remerge's ram takes no weight: leave it out",
        ),
        (
            {**TIES, "merge_method": "ramplus_tl", "parameters": {"epsilon": 2}},
            "mergekit.yml: method ram: threshold must be float in [0, 1], not 2",
        ),
        (
            {**TIES, "merge_method": "della", "models": weighed(-1, 1, density=0.5)},
            "weight: -1 is negative: give numbers of 0 or more, or normalize: false",
        ),
        (
            {**TIES, "merge_method": "dare_linear", "models": weighed(1, 1, epsilon=0.1)},
            "epsilon of cola: remerge's dare takes no epsilon: leave it out",
        ),
        (
            {**TIES, "merge_method": "dare_ties", "models": weighed(1), "parameters": {"rescale_norm": "l2"}},
            "parameters.rescale_norm: remerge's dare_ties takes no rescale_norm: leave it out",
        ),
        (
            {**TIES, "merge_method": "della", "models": weighed(1, 1, density=0.1)},
            "mergekit.yml: epsilon of cola: density 0.1 ± 0.15 must be between 0 and 1: lower it",
        ),
        (
            {**TIES, "merge_method": "della_linear", "models": weighed(1, density=0.5, epsilon=-0.1)},
            "mergekit.yml: epsilon of cola: -0.1 is negative: give numbers of 0 or more",
        ),
        ({**PLAIN, "merge_method": ["linear"]}, "merge_method: \"['linear']\" is not one"),
        ({"models": PAIR}, "merge_method: 'None' is not one"),
        (
            {**PLAIN, "slices": [{"sources": []}]},
            "mergekit.yml: models and slices: give one of them",
        ),
        ({**PLAIN, "modules": {}}, "modules: only whole models"),
        ({**PLAIN, "chat_template": "auto"}, "chat_template: the chat template is the tokenizer's"),
        ({**PLAIN, "methode": 1}, "methode: unknown key, known: name, merge_method, base_model, models"),
        ({**PLAIN, "dtype": "int8"}, "dtype: must be one of float32, bfloat16, float16, not 'int8'"),
        ({**PLAIN, "out_dtype": 16}, "out_dtype: must be one of"),
        ({**PLAIN, "out_dtype": "float32", "dtype": "int8"}, "mergekit.yml: dtype: must be one of"),
        ({**PLAIN, "base_model": "model"}, "base_model: linear would merge it too: list it in models"),
        ({**PLAIN, "base_model": {"model": "a"}}, "base_model: must be a folder or hub id"),
        ({**TIES, "base_model": None}, "base_model is missing, and ties starts from it"),
        ({**TIES, "models": []}, "models: must be a list of models"),
        ({**TIES, "models": ["cola"]}, "models.0: must be a mapping of keys, not 'cola'"),
        ({**TIES, "models": [{"parameters": {}}]}, "models.0.model: must be a folder or hub id, not 'None'"),
        (
            {**TIES, "models": [{"model": "cola", "weight": 1}]},
            "models.0: unknown key weight, known: model, param",
        ),
        ({**TIES, "models": [*PAIR, *PAIR]}, "models.2: cola is listed twice"),
        ({**PLAIN, "models": [*weighed(1), {"model": "./cola"}]}, "models.1: ./cola is listed twice"),
        ({**TIES, "models": [{"model": "model"}]}, "models: only the base"),
        ({**TIES, "models": [{"model": "cola+lora"}]}, "models.0.model: cola+lora: give the adapter alone"),
        (
            {**TIES, "base_model": {"model": {"path": "model"}, "lora": {"path": "a"}}},
            "base_model: must be a folder or hub id, not",
        ),
        (
            {**TIES, "models": weighed(1), "base_model": {"model": {"path": "no/base", "revision": "v1"}}},
            "mergekit.yml: base_model: no/base@v1: neither a local folder nor",
        ),
        (TIES, "weight of cola is missing"),
        ({**TIES, "models": weighed(-1, -1)}, "weight: -1 is negative: give numbers of 0 or more"),
        (
            {**TIES, "models": weighed(1, 1, gamma=0)},
            "gamma of cola: remerge's ties takes no gamma: leave it",
        ),
        (
            {
                **TIES,
                "merge_method": "breadcrumbs",
                "models": [*weighed(1, density=0.3), *weighed(1, 1, density=0.5)[1:]],
            },
            "density: every task vector keeps the same share",
        ),
        (
            {**TIES, "models": weighed(1, 1), "parameters": {"rescale": True}},
            "parameters.rescale: remerge's ties does not rescale",
        ),
        (
            {**TIES, "models": weighed(1, 1), "parameters": {"normalize": 1}},
            "normalize: must be true or false",
        ),
        (
            {**TIES, "models": weighed(1, 1), "parameters": {"lamda": 1}},
            "parameters.lamda: remerge's ties takes",
        ),
        (
            {**TIES, "models": weighed([{"filter": "mlp", "value": 1}], 1)},
            "mergekit.yml: model.embed_tokens.weight: weight of cola is missing: give it under its",
        ),
        (
            {**TIES, "models": weighed([1, {"value": 1}], 1)},
            "models.0.parameters.weight: '1' among several: give numbers, or mappings of value and filter",
        ),
        ({**TIES, "models": weighed([{"filter": "mlp"}], 1)}, "among several: give numbers, or mappings of"),
        ({**TIES, "models": weighed([], 1)}, "models.0.parameters.weight: must be a number, not '[]'"),
        (
            {**TIES, "models": weighed([{"value": {"value": 1}}], 1)},
            "models.0.parameters.weight: conditions within a condition: give each its own entry",
        ),
        ({**TIES, "models": weighed([0, "much"], 1)}, "weight of cola: must be a number, not 'much'"),
        (sliced([0, 3]), "slices.0: layer_range ends at 3, and cola has 2 layers: end there"),
        (
            sliced([0, 2.5]),
            "slices.0.sources.0.layer_range: must be the first layer and the one after the last",
        ),
        (sliced(None), "slices.0.sources.0.layer_range: must be the first layer and the one after the last"),
        ({**sliced([0, 2]), "slices": []}, "slices: must be a list of slices, each `sources`: its models"),
        (
            {**sliced([0, 2]), "slices": [{"sources": [], "base_model": "cola"}]},
            "slices.0: unknown key base_model, known: sources, parameters",
        ),
        ({**TIES, "models": weighed("much", 1)}, "weight of cola: must be a number, not 'much'"),
        ({**TIES, "models": weighed(float("nan"), 1)}, "weight of cola: must be a number, not 'nan'"),
        ({**PLAIN, "models": weighed(10**400, 1)}, "weight of cola: must be a number, not '1000"),
        ({**PLAIN, "models": weighed(1e308, 1e308)}, "weight of cola: must be a number, not '1e+308'"),
        ({**TIES, "models": weighed(True, 1)}, "weight of cola: must be a number, not 'True'"),
        ({**PLAIN, "models": weighed(-1, 3)}, "weight: -1 is negative: use task_arithmetic"),
        ({**PLAIN, "models": weighed(0, 0)}, "weight: all are 0"),
        (
            {**PLAIN, "parameters": {"normalize": False}},
            "parameters.normalize: the weights sum to 2: make it 1",
        ),
        ({**TIES, "merge_method": "slerp"}, "models: slerp takes the base and one other, not 3"),
        ({"merge_method": "slerp", "base_model": "cola", "models": PAIR}, "parameters.t is missing"),
        (
            {**TIES, "merge_method": "multislerp", "models": weighed(1, -2)},
            "weight: -2 is negative: give numbers of 0 or more",
        ),
        (
            {
                **TIES,
                "merge_method": "multislerp",
                "models": weighed(1, 1),
                "parameters": {"normalize_weights": False},
            },
            "parameters.normalize_weights: remerge normalises the weights: write true",
        ),
        (
            {"merge_method": "multislerp", "models": weighed(1, 2)},
            "base_model is missing: remerge's multi_slerp is of differences from one",
        ),
        (
            {**TIES, "merge_method": "breadcrumbs", "models": weighed(1, 1, density=0.9, gamma=0.2)},
            "gamma: with density it sums to more than 1: write 0.1 or less",
        ),
        (
            {**TIES, "merge_method": "breadcrumbs", "models": weighed(1, 1, density=1.5)},
            "mergekit.yml: method breadcrumbs: density must be float in (0, 1], not 1.5",
        ),
        (
            {**TIES, "merge_method": "breadcrumbs", "models": weighed(1, 1), "parameters": {"rescale": True}},
            "parameters.rescale: remerge's breadcrumbs does not rescale",
        ),
        (
            {**TIES, "merge_method": "sce", "parameters": {"select_topk": 0}},
            "parameters.select_topk: must be above 0 and at most 1, not 0",
        ),
        (
            {**TIES, "merge_method": "nuslerp", "models": weighed(1, 1, 1)},
            "models: nuslerp takes two beside the base, not 3",
        ),
        (
            {
                **TIES,
                "merge_method": "nuslerp",
                "models": weighed(1, 1),
                "parameters": {"nuslerp_flatten": False},
            },
            "parameters.nuslerp_flatten: remerge goes by whole tensors: write true",
        ),
        (
            {**TIES, "merge_method": "nearswap", "parameters": {"t": 1}},
            "models: nearswap takes the base and one other, not 3",
        ),
        (
            {"merge_method": "karcher", "models": PAIR, "parameters": {"max_iter": 3}},
            "parameters.max_iter: remerge goes on until the mean stands: leave it out",
        ),
        (
            {"merge_method": "karcher", "models": PAIR, "parameters": {"tol": 0.1}},
            "parameters.tol: remerge goes on until the mean stands",
        ),
        ({**TIES, "merge_method": "karcher"}, "base_model: karcher would merge it too: list it in models"),
        (
            {"merge_method": "model_stock", "base_model": "model", "models": [{"model": "cola"}]},
            "models: model_stock takes two models or more beside the base",
        ),
        (
            {**TIES, "merge_method": "model_stock", "parameters": {"filter_wise": True}},
            "parameters.filter_wise: remerge goes by whole tensors: write false",
        ),
        (
            {**PLAIN, "models": [{"model": "./missing", "parameters": {"weight": 1}}]},
            "mergekit.yml: models: ./missing: no such folder: give a folder made by save_pretrained",
        ),
        (
            {**TIES, "base_model": "no/base", "models": weighed(1, 1)},
            "mergekit.yml: base_model: no/base: neither a local folder nor",
        ),
    ],
)
def test_what_is_not_the_same_is_one_line(here, capsys, raw, words):
    before = sorted(Path().iterdir())
    assert merged(raw) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("remerge:")]
    assert words in line
    Path("mergekit.yml").unlink()
    assert sorted(Path().iterdir()) == before
