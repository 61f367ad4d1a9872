"""Layers that a mergekit file moves, repeats or leaves out: the oracle is mergekit."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from loading import close
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_mergekit import merged, save_drawn, theirs
from transformers import AutoModelForCausalLM

from remerge.__main__ import main
from remerge.folders.recipe import RECIPE

SIZE = {"vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2}
SMALL = {**SIZE, "num_key_value_heads": 1, "num_hidden_layers": 4}
GPT2 = {"vocab_size": 40, "n_embd": 8, "n_head": 2, "n_layer": 3, "n_positions": 16}
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
DEEP = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 4}

MODELS = {
    **{f"llama-{name}": ("Llama", SMALL) for name in "abc"},
    "llama-six": ("Llama", {**SMALL, "num_hidden_layers": 6}),
    "llama-tied": ("Llama", {**SMALL, "tie_word_embeddings": True}),
    "llama-tied-too": ("Llama", {**SMALL, "tie_word_embeddings": True}),
    "llama-words": ("Llama", {**SMALL, "vocab_size": 44}),
    "llama-wide": ("Llama", {**SMALL, "hidden_size": 16}),
    **{f"mixtral-{name}": ("Mixtral", {**SMALL, **MOE}) for name in "ab"},
    **{f"gemma2-{name}": ("Gemma2", {**SMALL, "head_dim": 4, "sliding_window": 4}) for name in "ab"},
    "qwen2moe": ("Qwen2Moe", {**SMALL, **DEEP, "shared_expert_intermediate_size": 4, "mlp_only_layers": [0]}),
    "albert": ("AlbertForMaskedLM", {**SIZE, "embedding_size": 8, "num_hidden_layers": 2}),
    "t5": (
        "T5ForConditionalGeneration",
        {"vocab_size": 40, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2},
    ),
    **{f"bert-{name}": ("BertForSequenceClassification", {**SIZE, "num_hidden_layers": 2}) for name in "ab"},
    "bert-body": ("BertModel", {**SIZE, "num_hidden_layers": 2}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The models in one folder for all tests: mergekit keeps in memory what it has read."""
    place = tmp_path_factory.mktemp("layers")
    made = {**MODELS, "gpt2-a": ("GPT2LMHeadModel", GPT2), "gpt2-b": ("GPT2LMHeadModel", GPT2)}
    for seed, (name, (kind, size)) in enumerate(made.items()):
        torch.manual_seed(seed)
        architecture = getattr(
            transformers, kind if "For" in kind or "Model" in kind else f"{kind}ForCausalLM"
        )
        model = architecture(architecture.config_class(**size))
        save_drawn(model, place / name)
    return place


@pytest.fixture
def here(among):
    """In the folder of the models."""


def sources(*models, **parameters):
    """A slice: each model with its first layer and the one after its last, and perhaps parameters."""
    listed = [{"model": f"{model}", "layer_range": [first, last]} for model, first, last in models]
    return {
        "sources": [{**source, **({"parameters": parameters} if parameters else {})} for source in listed]
    }


def passed(*slices, **more):
    return {"merge_method": "passthrough", "dtype": "float32", "slices": list(slices), **more}


A, B, SIX = "llama-a", "llama-b", "llama-six"
BY_NAME = [{"filter": "layers.1.", "value": 0.2}, {"filter": "mlp", "value": [0.3, 0.9]}, {"value": 0.5}]

FILES = {
    "two models overlap": passed(sources((A, 0, 3)), sources((B, 1, 4))),
    "the first has fewer layers": passed(sources((A, 2, 3)), sources((SIX, 3, 6)), sources((A, 0, 1))),
    "layers repeated": passed(*[sources((A, k, k + 1)) for k in (0, 1, 1, 2, 2, 3)]),
    "pruned": passed(sources((SIX, 0, 2)), sources((SIX, 4, 6))),
    "all in place": passed(sources((A, 0, 2)), sources((B, 2, 4))),
    "a base of which there is only the configuration": passed(
        sources((A, 0, 3)), sources((B, 2, 4)), base_model="llama-c"
    ),
    "scaled": passed(
        sources((A, 0, 3)),
        sources(
            (B, 1, 4), scale=[{"filter": "o_proj", "value": [0, 0.5]}, {"filter": "layers.1.", "value": 3}]
        ),
        parameters={"scale": [{"filter": "layers.3.", "value": 2}, {"filter": "down_proj", "value": 0.1}]},
    ),
    "a whole model scaled": {
        "merge_method": "passthrough",
        "dtype": "float32",
        "models": [
            {"model": A, "parameters": {"scale": [{"filter": "mlp", "value": [1, 0.4]}, {"value": 1}]}}
        ],
    },
    "tied": passed(sources(("llama-tied", 0, 2)), sources(("llama-tied-too", 1, 4))),
    "gpt2": passed(sources(("gpt2-a", 0, 2)), sources(("gpt2-b", 0, 3), scale=[1, 2])),
    "slerp of moved layers": {
        "merge_method": "slerp",
        "base_model": A,
        "dtype": "float32",
        "slices": [sources((A, 0, 2), (SIX, 1, 3)), sources((SIX, 0, 4), (A, 0, 4))],
        "parameters": {"t": BY_NAME},
    },
    "linear of moved layers, weights by each model's own names": {
        "merge_method": "linear",
        "dtype": "float32",
        "slices": [
            sources((A, 0, 2), (SIX, 1, 3), (B, 2, 4)),
            sources((SIX, 0, 4)),
            sources((B, 1, 2), (A, 0, 1)),
        ],
        "parameters": {"weight": BY_NAME},
    },
    "linear, a base of which there is only the configuration": {
        "merge_method": "linear",
        "base_model": "llama-c",
        "dtype": "float32",
        "slices": [sources((A, 0, 2), (B, 0, 2), weight=1), sources((A, 2, 4), (B, 2, 4), weight=1)],
    },
    "ties, the base's layers repeated": {
        "merge_method": "ties",
        "base_model": A,
        "dtype": "float32",
        "slices": [
            sources((A, 0, 3), (B, 1, 4), (SIX, 2, 5)),
            sources((A, 0, 3), (B, 0, 3)),
            sources((SIX, 5, 6), (A, 0, 1)),
        ],
        "parameters": {
            "weight": BY_NAME,
            "density": 0.4,
            "lambda": [{"filter": "layers.4", "value": 2}, {"value": 1}],
        },
    },
    "nuslerp of weights, one model in each slice of two": {
        "merge_method": "nuslerp",
        "dtype": "float32",
        "slices": [sources((A, 1, 3), (B, 2, 4), weight=0.3), sources((B, 0, 1), (SIX, 5, 6), weight=0.6)],
    },
}


@pytest.mark.parametrize("name", FILES)
def test_it_makes_what_mergekit_makes(here, name):
    raw = FILES[name]
    assert merged(raw) == 0
    found = load_file("merged/model.safetensors")
    close(found, theirs(raw), 0 if raw["merge_method"] == "passthrough" else 1e-5)
    again = yaml.safe_load(Path("merged", RECIPE).read_text())
    assert main(["mergekit", f"merged/{RECIPE}", "--out", "again"]) == 0
    close(load_file("again/model.safetensors"), found, 0)
    close(theirs(again), found, 1e-5)
    model, told = AutoModelForCausalLM.from_pretrained("merged", output_loading_info=True)
    assert not any(told.values())
    ranges = [part["sources"][0]["layer_range"] for part in raw.get("slices", [])]
    assert model.config.num_hidden_layers == (sum(last - first for first, last in ranges) or 4)
    made = model.generate(torch.tensor([[3, 4, 5]]), max_new_tokens=3, min_new_tokens=3, pad_token_id=0)
    assert made.shape == (1, 6)


def test_stacked_experts_are_stored_apart(here):
    """mergekit and transformers have other names for them."""
    raw = passed(sources(("mixtral-a", 0, 2)), sources(("mixtral-b", 0, 3)))
    assert merged(raw) == 0
    theirs(raw)
    shutil.copy("merged/config.json", "theirs/config.json")
    found, expected = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in ("merged", "theirs"))
    close(found, expected, 0)


def test_layers_keep_their_kind(here):
    """Gemma 2 alternates between windows and all tokens; mergekit leaves the list as it was."""
    assert merged(passed(sources(("gemma2-a", 1, 3)), sources(("gemma2-b", 1, 4)))) == 0
    model = AutoModelForCausalLM.from_pretrained("merged")
    a, b = (AutoModelForCausalLM.from_pretrained(f"gemma2-{name}") for name in "ab")
    kinds = [a.config.layer_types[k] for k in (1, 2)] + [b.config.layer_types[k] for k in (1, 2, 3)]
    assert json.loads(Path("merged/config.json").read_text())["layer_types"] == kinds
    by_hand = deepcopy(a)
    by_hand.config = by_hand.model.config = model.config
    by_hand.model.layers = torch.nn.ModuleList([*a.model.layers[1:3], *b.model.layers[1:4]])
    by_hand.model.norm = b.model.norm
    tokens = torch.arange(3, 15)[None]
    with torch.no_grad():
        given = [m(tokens, use_cache=False).logits for m in (model.eval(), by_hand.eval())]
    assert torch.equal(*given)
    # mergekit could not load its own configuration.
    assert not Path("merged", RECIPE).exists()


def test_weights_of_16_bits_are_copied(here, capsys):
    for name in (A, B):
        AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16).save_pretrained(f"{name}-half")
    raw = passed(sources((f"{A}-half", 0, 3)), sources((f"{B}-half", 1, 4)))
    capsys.readouterr()
    assert merged({**raw, "dtype": None}) == 0
    assert "rounds each step" not in capsys.readouterr().err
    close(load_file("merged/model.safetensors"), theirs({**raw, "dtype": None}), 0)


def test_what_is_said_of_it(here, capsys):
    raw = passed(sources((A, 0, 1)), sources((A, 0, 1)))
    assert merged(raw) == 0
    card = Path("merged/README.md").read_text()
    assert "A merge by `passthrough` (Goddard et al., 2024, arXiv:2403.13257), made with remerge: the" in card
    shutil.rmtree("merged")
    raw = {**raw, "merge_method": "linear", "slices": [sources((A, 0, 1)), sources((A, 0, 1), (B, 0, 1))]}
    assert merged({**raw, "parameters": {"weight": 1}}) == 0
    told = "lm_head.weight, model.norm.weight: of all models of the last slice here; mergekit takes as many"
    said = capsys.readouterr().err
    # mergekit has a file on Llama, so that it is of the last slice there, too.
    assert told in said and "of the first in mergekit" not in said
    found, other = load_file("merged/model.safetensors"), theirs({**raw, "parameters": {"weight": 1}})
    ends = ["lm_head.weight", "model.norm.weight"]
    assert sorted(name for name in found if not torch.allclose(found[name], other[name], atol=1e-6)) == ends


def test_layers_that_compute_by_their_number_stay(here, capsys):
    shutil.copytree("gpt2-a", "numbered", dirs_exist_ok=True)
    config = Path("numbered/config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "scale_attn_by_inverse_layer_idx": True}))
    assert merged(passed(sources(("numbered", 0, 2)), sources(("numbered", 1, 3)))) == 2
    assert "numbered's layers compute by their number: list whole models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            passed(sources((A, 0, 3)), sources((B, 2, 5))),
            "slices.1: layer_range ends at 5, and llama-b has 4 layers",
        ),
        (
            {**passed(sources((A, 0, 3), (B, 1, 3))), "merge_method": "linear"},
            "slices.0: layer_range [1, 3]: the first source has 3: give all sources of a slice as many",
        ),
        (passed(sources((A, 0, 2), (B, 0, 2))), "models: passthrough takes one, or one in each slice"),
        (
            passed(sources((A, 0, 2), weight=1)),
            "weight of llama-a: remerge's passthrough takes no weight: leave it",
        ),
        (passed(sources((A, 0, 2), scale="x")), "scale of llama-a: must be a number, not 'x'"),
        (
            {"merge_method": "passthrough", "models": [{"model": A}], "base_model": B},
            "base_model: passthrough would merge it too: list it in models, or leave it out",
        ),
        (
            {**passed(sources((A, 0, 2), (B, 0, 2)), sources((B, 0, 2), weight=1)), "merge_method": "ties"}
            | {"base_model": A, "parameters": {"weight": 1}},
            "slices.1.sources: ties starts from the base: list it with its layer_range",
        ),
        (
            passed(sources(("adapter", 0, 4)), base_model=A),
            "adapter is an adapter, and only layers of whole models",
        ),
        (
            {**passed(sources((A, 0, 3), ("adapter", 1, 4), weight=1)), "merge_method": "task_arithmetic"}
            | {"base_model": A},
            "adapter is an adapter, and only layers of whole models are moved or passed through: merge",
        ),
        (
            passed(sources(("t5", 0, 2))),
            "slices: t5 is not one stack of layers, each with its own weights: list",
        ),
        (
            passed(sources(("albert", 0, 1)), sources(("albert", 0, 1))),
            "slices: albert is not one stack of layers, each with its own weights",
        ),
        (passed(sources(("bare", 0, 2))), "slices: bare has no config.json: list whole models"),
        (
            passed(sources((A, 0, 2)), sources(("gemma2-a", 0, 1))),
            "gemma2-a is a gemma2, llama-a a llama: give one",
        ),
        (
            passed(sources(("llama-tied", 0, 2)), sources((A, 1, 4))),
            "llama-a has a lm_head.weight of its own, which llama-tied ties to model.embed_tokens.weight",
        ),
        (
            # There mergekit writes a model without a head, which transformers would draw at random.
            passed(sources((A, 0, 2)), sources(("llama-tied", 2, 4))),
            "slices: llama-a has a lm_head.weight of its own, and no model of its slice stores one, so that",
        ),
        (
            passed(sources(("llama-tied", 0, 2)), sources(("llama-tied-too", 1, 4)), base_model=A),
            "slices: llama-a has a lm_head.weight of its own, and no model of its slice stores one, so that",
        ),
        (
            passed(sources(("qwen2moe", 0, 2)), sources(("qwen2moe", 0, 4))),
            "slices: layer 0 of qwen2moe would be of another kind as layer 2 of the merge (mlp",
        ),
        (
            passed(sources((A, 0, 2)), sources(("llama-words", 2, 3))),
            "lm_head.weight is [44, 8], the base's [40, 8]",
        ),
        (
            passed(sources((A, 0, 2)), base_model="llama-wide"),
            "model.embed_tokens.weight is [40, 8], the base's [40, 16]",
        ),
        (
            passed(sources(("bert-a", 0, 2)), sources(("bert-body", 0, 2))),
            "expert bert-body: tensor classifier.bias is missing",
        ),
        (
            passed(sources(("bert-body", 0, 2)), sources(("bert-a", 0, 2))),
            "slices: not every model has classifier.bias: give models of one kind",
        ),
    ],
)
def test_what_cannot_be_moved_is_one_line(here, capsys, raw, words):
    if "adapter" in str(raw) and not Path("adapter").exists():
        config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(A), config).save_pretrained("adapter")
    if "bare" in str(raw):
        Path("bare").mkdir()
        shutil.copy(f"{A}/model.safetensors", "bare")
    capsys.readouterr()
    assert merged(raw) == 2
    *_, line = [line for line in capsys.readouterr().err.splitlines() if line.startswith("remerge:")]
    assert words in line
    assert not Path("merged").exists()


def test_a_tied_head_that_is_stored_is_merged_by_itself_in_mergekit(here, capsys):
    """It has the models of the last slice, the embedding those of the first."""
    for name in ("llama-tied", "llama-tied-too"):
        state = load_file(f"{name}/model.safetensors")
        shutil.copytree(name, f"{name}-twice")
        head = {"lm_head.weight": state["model.embed_tokens.weight"].clone()}
        save_file({**state, **head}, f"{name}-twice/model.safetensors", {"format": "pt"})
    first, last = (sources((f"llama-tied{m}-twice", k, k + 2), weight=1) for k, m in ((0, ""), (2, "-too")))
    raw = {"merge_method": "linear", "dtype": "float32", "slices": [first, last]}
    assert merged(raw) == 2
    told = "lm_head.weight is tied to model.embed_tokens.weight, for which the file says something else"
    assert told in capsys.readouterr().err
    other = theirs(raw)
    assert not torch.equal(other["lm_head.weight"], other["model.embed_tokens.weight"])


def test_a_head_goes_with_the_last_layers(here):
    assert merged(passed(sources(("bert-a", 0, 2)), sources(("bert-b", 1, 2)))) == 0
    found, b = load_file("merged/model.safetensors"), load_file("bert-b/model.safetensors")
    assert torch.equal(found["classifier.weight"], b["classifier.weight"])
    assert torch.equal(found["bert.pooler.dense.weight"], b["bert.pooler.dense.weight"])


def test_a_sentence_encoder_whose_further_modules_differ(here, capsys):
    for seed, name in enumerate("ab"):
        shutil.copytree(f"bert-{name}", f"encoder-{name}")
        Path(f"encoder-{name}/modules.json").write_text(json.dumps([{"path": "2_Dense"}]))
        Path(f"encoder-{name}/2_Dense").mkdir()
        save_file({"linear.weight": torch.full((2, 8), seed)}, f"encoder-{name}/2_Dense/model.safetensors")
    assert merged(passed(sources(("encoder-a", 0, 2)), sources(("encoder-b", 1, 2)))) == 2
    told = "encoder-b/2_Dense/model.safetensors: differs from the base's, and is not merged"
    assert told in capsys.readouterr().err
