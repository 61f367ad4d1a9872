"""Models whose tokenizers have different tokens, merged as a mergekit file says: the oracle is mergekit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from loading import close
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from test_mergekit import merged, save_drawn, theirs
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from remerge.__main__ import main
from remerge.folders.mergekit import rows
from remerge.folders.recipe import RECIPE

SIZE = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1}
START, END, PAD = "<|im_start|>", "<|im_end|>", "<pad>"

MODELS = {
    # The letters in their order, pairs that are tokens, tokens that are added, and rows beyond all these.
    "plain": ("Llama", "abcdefgh", ["ab"], [], 0),
    "chat": ("Llama", "abcdefgh", ["ab"], [START, END], 5),
    "other": ("Llama", "hgfedcba", ["ab"], [PAD, END, START], 0),
    "pairs": ("Llama", "abcdefgh", ["cd"], [END], 2),
    "few": ("Llama", "abcdef", ["ab", "cd", "ef"], [END, "<x>", "<y>"], 0),
    "tied": ("Llama", "abcdefgh", ["ab"], [END, START], 3),
    "tied-plain": ("Llama", "abcdefgh", ["ab"], [], 0),
    **{f"mistral-{n}": ("Mistral", "abcdefgh", ["ab"], [n, END], i) for i, n in enumerate(("<x>", "<y>"))},
    "mistral-none": ("Mistral", "hbcdefga", [], [], 3),
    **{f"qwen-{n}": ("Qwen2", "abcdefgh", ["ab"], [n, END], i) for i, n in enumerate(("<x>", "<y>"))},
}


def tokenizer(letters, pairs, added):
    vocabulary = {token: number for number, token in enumerate([*letters, *pairs])}
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocabulary, [(*pair,) for pair in pairs])))
    # A chat model's are special; others are words of their own, and of other settings.
    made.add_tokens([AddedToken(t, special=t in (START, END), lstrip=t == "<x>") for t in added])
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The models in one folder for all tests: mergekit keeps in memory what it has read."""
    place = tmp_path_factory.mktemp("tokens")
    for seed, (name, (kind, letters, pairs, added, more)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        settings = getattr(transformers, f"{kind}Config")
        settings().save_pretrained(place / name)
        tokenizer(letters, pairs, added).save_pretrained(place / name)
        # As transformers reads it: Qwen2's has a token more.
        own = AutoTokenizer.from_pretrained(place / name)
        own.save_pretrained(place / name)
        tied = "tied" in name or kind == "Qwen2"
        config = settings(
            **SIZE,
            vocab_size=len(own) + more,
            num_hidden_layers=2,
            tie_word_embeddings=tied,
            pad_token_id=None,
        )
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        save_drawn(model, place / name)
    return place


@pytest.fixture
def here(among, monkeypatch):
    monkeypatch.setattr(rows, "PIECE", 4)


def linear(*models, **more):
    listed = [{"model": model, "parameters": {"weight": 1 + t}} for t, model in enumerate(models)]
    return {"merge_method": "linear", "base_model": models[0], "models": listed, "dtype": "float32", **more}


def differences(*models, method="task_arithmetic", **more):
    """A method that starts from the first model."""
    return {
        **{"merge_method": method, "base_model": models[0], "dtype": "float32"},
        **{"models": [{"model": model} for model in models[1:]], "parameters": {"weight": 0.6}},
        **more,
    }


def row_of(model, token):
    key = "token" if isinstance(token, str) else "token_id"
    return {"source": {"kind": "model_token", "model": model, key: token}}


UNION, BASE, ZERO = {"tokenizer_source": "union"}, {"tokenizer_source": "base"}, {"kind": "zero"}

FILES = {
    "a chat model and its base": linear("plain", "chat", **UNION),
    "a chat model and its base, only the base's tokens": linear("plain", "chat", **BASE),
    "the tokens of a chat model": linear("plain", "chat", tokenizer_source="chat"),
    "rows beyond the tokens are left out": linear("chat", "chat", tokenizer_source="base")
    | {"models": [{"model": "chat", "parameters": {"weight": 1}}]},
    "tokens in another order": differences("plain", "chat", "other", tokenizer_source="other"),
    "the base last in the file": differences("other", "plain", "chat", "other", **BASE),
    "ties, one more ordinary token": differences("chat", "pairs", method="ties", **UNION),
    "the tokens of a model that is not merged": linear("plain", "chat", tokenizer_source="few"),
    "the mean of those that have a token": differences("plain", "chat", "other", tokenizer_source="chat"),
    "tied": differences("tied-plain", "tied", **UNION),
    "tied beside untied": linear("plain", "tied", "chat", tokenizer_source="tied"),
    "mistral": differences("mistral-<x>", "mistral-<y>", "mistral-none", **UNION),
    "mistral, slerp": {
        **differences("mistral-none", "mistral-<y>", method="slerp", **BASE),
        "parameters": {"t": 0.3},
    },
    "qwen2": differences("qwen-<x>", "qwen-<y>", **UNION),
    "filled up": linear("plain", "chat", tokenizer={"pad_to_multiple_of": 8}),
    "rows that are named": linear(
        "chat",
        "plain",
        "other",
        tokenizer={
            "source": "union",
            "pad_to_multiple_of": 4,
            "tokens": {
                START: {"source": "chat"},
                END: {"source": {"model": {"path": "other"}}, "force": True},
                "h": {"source": ZERO, "force": True},
                PAD: row_of("chat", START),
                "<new>": row_of("other", 3),
                "<none>": {"source": ZERO},
                "a": {"source": "other"},  # all have it
            },
        },
    ),
    "a row that the base has beyond its tokens": linear(
        "pairs", "chat", tokenizer={"source": "base", "tokens": {"<new>": row_of("chat", "b")}}
    ),
    "moved layers": {
        "merge_method": "passthrough",
        "dtype": "float32",
        "base_model": "chat",
        "tokenizer_source": "union",
        "slices": [
            {"sources": [{"model": model, "layer_range": own}]}
            for model, own in (("chat", [0, 2]), ("other", [1, 2]), ("plain", [0, 2]))
        ],
    },
    "moved layers, a base of which there is only the configuration": {
        "merge_method": "linear",
        "dtype": "float32",
        "base_model": "pairs",
        "tokenizer": {"pad_to_multiple_of": 8, "tokens": {"a": {"source": ZERO, "force": True}}},
        "parameters": {"weight": 1},
        "slices": [
            {
                "sources": [
                    {"model": "chat", "layer_range": [k, k + 1]},
                    {"model": "plain", "layer_range": [0, 1]},
                ]
            }
            for k in (1, 0, 0)
        ],
    },
}


def numbers(folder):
    return AutoTokenizer.from_pretrained(folder).get_vocab()


def by_token(folder):
    """The tensors of a folder, the rows of tokens in an order of their own."""
    own, tensors = numbers(folder), load_file(f"{folder}/model.safetensors")
    order = torch.tensor([own[token] for token in sorted(own)])
    return {n: t[order] if n.startswith(("model.embed", "lm_head")) else t for n, t in tensors.items()}


def written(folder):
    """Settings of tokens, without their numbers."""
    added = json.loads(Path(folder, "tokenizer.json").read_text())["added_tokens"]
    return {token.pop("content"): token for token in added if token.pop("id") is not None}


@pytest.mark.parametrize("name", FILES)
def test_it_makes_what_mergekit_makes(here, name, capsys):
    raw = FILES[name]
    assert merged(raw) == 0
    assert "in no fixed order" not in capsys.readouterr().err
    found, other = load_file("merged/model.safetensors"), theirs(raw)
    close(found, other, 1e-6)
    assert numbers("merged") == numbers("theirs")
    assert written("merged") == written("theirs")
    assert Path("merged/tokenizer.json").read_text() == Path("theirs/tokenizer.json").read_text()
    config, there = (json.loads(Path(f, "config.json").read_text()) for f in ("merged", "theirs"))
    assert config["vocab_size"] == there["vocab_size"] == len(found["model.embed_tokens.weight"])
    model, info = AutoModelForCausalLM.from_pretrained("merged", output_loading_info=True)
    assert not any(info.values())
    assert model(torch.arange(len(numbers("merged")))[None]).logits.isfinite().all()
    # What is written beside the merge makes it once more, here and there.
    close(theirs(yaml.safe_load(Path("merged", RECIPE).read_text())), found, 1e-6)
    assert main(["mergekit", f"merged/{RECIPE}", "--out", "again"]) == 0
    close(load_file("again/model.safetensors"), found)


@pytest.mark.parametrize(
    "raw",
    [
        differences("plain", "chat", "other", "few", **UNION),
        linear("plain", "few", "tied", **UNION) | {"base_model": None},
        linear("other", "chat", "few", tokenizer={"tokens": {"<x>": row_of("chat", "b")}})
        | {"base_model": None},
    ],
)
def test_a_union_that_mergekit_numbers_in_no_fixed_order(here, raw, capsys):
    """By the order of a set of models, or of a tokenizer's words."""
    assert merged(raw) == 0
    assert (
        "mergekit numbers the tokens of this union in no fixed order, remerge by" in capsys.readouterr().err
    )
    theirs(raw)
    close(by_token("merged"), by_token("theirs"), 1e-6)
    if raw["base_model"]:
        assert written("merged") == written("theirs")
        assert numbers("merged") == numbers("plain") | dict(zip(sorted_new(raw), range(9, 99), strict=False))


def sorted_new(raw):
    """The new tokens, ordinary ones first, by model and number."""
    listed = [MODELS[model["model"]] for model in raw["models"]]
    plain = [token for _, _, pairs, _, _ in listed for token in pairs if token != "ab"]
    added = [token for *_, tokens, _ in listed for token in tokens]
    return list(dict.fromkeys([*plain, *added]))


OTHERS = {
    "GPT2LMHeadModel": {"n_embd": 8, "n_head": 2, "n_layer": 2, "bos_token_id": 0, "eos_token_id": 0},
    # A bias of the head has an entry for each token, as have names that are tied.
    "PhiForCausalLM": {**SIZE, "num_hidden_layers": 2, "num_key_value_heads": 2},
    "RobertaForMaskedLM": {**SIZE, "num_hidden_layers": 2, "pad_token_id": 1},
    "T5ForConditionalGeneration": {
        **{"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2},
        **{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0},
    },
    "BartForConditionalGeneration": {"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    | {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    for seed, (name, added) in enumerate(((f"{kind}-a", []), (f"{kind}-b", [START, END]))):
        torch.manual_seed(seed)
        architecture = getattr(transformers, kind)
        architecture.config_class().save_pretrained(name)
        tokenizer("abcdefgh", ["ab"], added).save_pretrained(name)
        own = AutoTokenizer.from_pretrained(name)
        own.save_pretrained(name)
        model = architecture(architecture.config_class(**OTHERS[kind], vocab_size=len(own) + 3 * (1 - seed)))
        save_drawn(model, name)
    raw = differences(f"{kind}-a", f"{kind}-b", tokenizer={"pad_to_multiple_of": 8})
    if kind == "BartForConditionalGeneration":
        assert merged(raw) == 2
        assert "final_logits_bias of BartForConditionalGeneration-a: rows are mo" in capsys.readouterr().err
        return
    assert merged(raw) == 0
    close(load_file("merged/model.safetensors"), theirs(raw), 1e-6)
    assert not any(architecture.from_pretrained("merged", output_loading_info=True)[1].values())


def test_rows_in_half_precision(here, capsys):
    """Means are taken in the dtype in which mergekit computes."""
    for name in ("plain", "chat", "other"):
        shutil.copytree(name, f"half-{name}", dirs_exist_ok=True)
        AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16).save_pretrained(f"half-{name}")
    models = [f"half-{name}" for name in ("plain", "chat", "other")]
    filled = {"source": "half-other", "pad_to_multiple_of": 8}
    raw = differences(*models, tokenizer=filled, out_dtype="float32")
    assert merged(raw) == 0
    close(load_file("merged/model.safetensors"), theirs(raw), 1e-6)
    for made in ("merged", "theirs"):
        shutil.rmtree(made)
    raw = {**raw, "dtype": None, "out_dtype": None}
    assert merged(raw) == 0
    assert "mergekit rounds each step to 16 bits" in capsys.readouterr().err
    close(load_file("merged/model.safetensors"), theirs(raw), 0.01)


def test_an_adapter_has_the_tokens_of_its_base(here):
    """Also where it changes the embeddings."""
    config = LoraConfig(r=2, target_modules=["embed_tokens", "q_proj"], init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained("plain"), config)
    model.save_pretrained("adapter")
    model.merge_and_unload().save_pretrained("adapted")
    AutoTokenizer.from_pretrained("plain").save_pretrained("adapted")
    made = []
    for name in ("adapter", "adapted"):
        assert merged(differences("plain", "chat", name, **UNION)) == 0
        made.append(load_file("merged/model.safetensors"))
        shutil.rmtree("merged")
    close(*made)
    close(made[1], theirs(differences("plain", "chat", "adapted", **UNION)), 1e-6)


def test_marks_of_the_base_that_are_other_tokens(here, capsys):
    """mergekit leaves their numbers in config.json."""
    shutil.copytree("chat", "marked", dirs_exist_ok=True)
    own = AutoTokenizer.from_pretrained("chat")
    own.eos_token = START
    own.save_pretrained("marked")
    assert merged(linear("marked", "other", tokenizer_source="other")) == 0
    told = (
        "tokenizer: number 9, eos_token in marked, is another token; config.json and generation_config.json"
    )
    assert told in capsys.readouterr().err
    shutil.rmtree("merged")
    assert merged(linear("marked", "other", **UNION)) == 0
    assert "is another token" not in capsys.readouterr().err


def test_files_of_another_tokenizer_are_not_left(here):
    shutil.copytree("plain", "full", dirs_exist_ok=True)
    for file in ("added_tokens.json", "special_tokens_map.json", "generation_config.json"):
        Path("full", file).write_text("{}")
    Path("full/chat_template.jinja").write_text("of the base")
    Path("full/LICENSE").write_text("free")
    assert merged(linear("full", "chat", tokenizer_source="chat")) == 0
    assert {file.name for file in Path("merged").iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        *("tokenizer_config.json", "LICENSE", "README.md", RECIPE),
    }
    shutil.rmtree("merged")
    assert merged(linear("full", "chat", **UNION)) == 0
    assert Path("merged/chat_template.jinja").read_text() == "of the base"


TOKEN = "tokenizer.tokens.<new>"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            linear("plain", "chat", **BASE) | {"base_model": None},
            "base_model is missing, and mergekit takes the tok",
        ),
        ({**linear("plain"), **UNION, "tokenizer": {}}, "tokenizer_source and tokenizer: give one of them"),
        (linear("plain", tokenizer="union"), "tokenizer: must be a mapping of keys, not 'union'"),
        (
            linear("plain", tokenizer={"tokes": {}}),
            "tokenizer: unknown key tokes, known: source, tokens, pad_to",
        ),
        (linear("plain", tokenizer={"source": 3}), "tokenizer.source: must be a folder or hub id, not '3'"),
        (linear("plain", tokenizer={"source": "./none"}), "tokenizer.source: ./none: no such folder"),
        (
            linear("plain", tokenizer={"pad_to_multiple_of": -8}),
            "tokenizer.pad_to_multiple_of: must be a whole number",
        ),
        (
            linear("plain", tokenizer={"pad_to_multiple_of": "8"}),
            "tokenizer.pad_to_multiple_of: must be a whole number",
        ),
        (linear("plain", tokenizer={"tokens": ["<new>"]}), "tokenizer.tokens: must be a mapping of keys"),
        (
            linear("plain", tokenizer={"tokens": {"": {}}}),
            "tokenizer.tokens.: must be the text of a token: write it",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": {}}}),
            f"{TOKEN}.source is missing: name a model, or write",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": {"source": ZERO, "forced": True}}}),
            f"{TOKEN}: unknown key forced, known: source, force",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": {"source": ZERO, "force": 1}}}),
            f"{TOKEN}.force: must be true or false, not '1'",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": {"source": {"kind": "mean"}}}}),
            f"{TOKEN}.source: must be {{kind: zero}}, or {{kind: model_token}} with a model and either",
        ),
        (
            linear(
                "plain",
                tokenizer={"tokens": {"<new>": {"source": {"kind": "model_token", "model": "plain"}}}},
            ),
            f"{TOKEN}.source: must be {{kind: zero}}, or {{kind: model_token}} with a model and either",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": row_of("chat", "a")}}),
            f"{TOKEN}.source: chat is not among the models: name one as it is named there",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": {"source": "plain"}}}),
            f"{TOKEN}.source: plain has no row for '<new>': name a token that it has",
        ),
        (
            linear("plain", tokenizer={"tokens": {"<new>": row_of("plain", 99)}}),
            f"{TOKEN}.source: plain has no row for 99: name a token that it has",
        ),
        (
            linear("plain", tokenizer={"source": "base", "tokens": {"<new>": {"source": ZERO}}}),
            f"{TOKEN}: plain has no row for it: write source: union",
        ),
        (
            {
                **FILES["moved layers"],
                "tokenizer_source": None,
                "tokenizer": {"tokens": {PAD: {"source": "other"}}},
            },
            f"tokenizer.tokens.{PAD}.source: other is not merged where lm_head.weight is: name another model",
        ),
    ],
)
def test_what_mergekit_would_not_make_is_one_line(here, capsys, raw, words):
    before = {*Path().iterdir(), Path("mergekit.yml")}
    assert merged(raw) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("remerge:")]
    assert f"mergekit.yml: {words}" in line
    assert {*Path().iterdir()} == before


def test_tokens_without_rows(here, capsys):
    """mergekit takes those of the base out, and fails on others, unless the merge has no such token."""
    shutil.copytree("chat", "longer", dirs_exist_ok=True)
    own = AutoTokenizer.from_pretrained("chat")
    own.add_tokens([f"<{k}>" for k in range(6)])
    own.save_pretrained("longer")
    told = "tokenizer: longer has no row for '<5>', number 16 of 16: resize its embeddings, or take the"
    assert merged(linear("longer", "chat", **UNION)) == 2
    assert told in capsys.readouterr().err
    assert merged(linear("plain", "longer", tokenizer_source="longer")) == 2
    assert told in capsys.readouterr().err
    raw = linear("plain", "longer", **UNION)
    assert merged(raw) == 0
    close(load_file("merged/model.safetensors"), theirs(raw), 1e-6)
    assert "<5>" not in numbers("merged")


def test_a_source_without_a_tokenizer(here, capsys):
    Path("bare").mkdir(exist_ok=True)
    shutil.copy("plain/config.json", "bare")
    assert merged(linear("plain", "chat", tokenizer_source="bare")) == 2
    assert "tokenizer: bare has no tokenizer, for which mergekit may take an empty" in capsys.readouterr().err


def test_a_tokenizer_with_gaps(here, capsys):
    shutil.copytree("plain", "gaps", dirs_exist_ok=True)
    file = Path("gaps/tokenizer.json")
    given = json.loads(file.read_text())
    given["model"]["vocab"]["h"] = 30
    file.write_text(json.dumps(given))
    AutoModelForCausalLM.from_pretrained("plain").save_pretrained("gaps")
    assert merged(linear("plain", "chat", tokenizer_source="gaps")) == 2
    assert (
        "its 9 tokens are not numbered up to 8, and mergekit makes that many rows" in capsys.readouterr().err
    )
    assert merged(linear("gaps", "chat", **UNION)) == 2


def test_a_padding_token_beyond_the_merge(here, capsys):
    shutil.copytree("chat", "padded", dirs_exist_ok=True)
    config = json.loads(Path("chat/config.json").read_text())
    Path("padded/config.json").write_text(json.dumps({**config, "pad_token_id": 12}))
    assert merged(linear("padded", "chat", **BASE)) == 2
    told = "the merge has 11 tokens, and pad_token_id is 12 in padded/config.json: correct it"
    assert told in capsys.readouterr().err
