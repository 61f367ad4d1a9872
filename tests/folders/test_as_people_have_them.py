"""Checkpoints in the forms that people have them in: read as `from_pretrained` reads them, or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from loading import close, loaded
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

import remerge
from remerge.__main__ import main
from remerge.checkpoints.models import state_of

PAIR = ["cola", "mnli"]
pytestmark = pytest.mark.usefixtures("here")


def merge(*params, base="model", experts=PAIR, out="merged", method="average"):
    words = ["--method", method, "--base", base, "--out", out]
    words += [word for expert in experts for word in ("--expert", expert)]
    return main(["merge", *words, *(word for param in params for word in ("--param", param))])


def refused(capsys, words, **given):
    capsys.readouterr()
    assert merge(**given) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert words in line, line
    assert not Path("merged").exists()


def configured(folder, **settings):
    file = Path(folder) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.fixture
def sharded(expert_folders):
    """An expert in shards beside those of an older save, of other weights."""
    AutoModelForCausalLM.from_pretrained("mnli").save_pretrained("old", max_shard_size="3KB")
    AutoModelForCausalLM.from_pretrained("cola").save_pretrained("both", max_shard_size="9KB")
    for file in Path("old").glob("*.safetensors"):
        assert not Path("both", file.name).exists()
        shutil.copy(file, "both")
    return expert_folders["cola"]


def test_shards_that_the_index_does_not_name_are_not_read(sharded):
    assert merge(experts=["both"]) == 0
    close(loaded("merged"), sharded)


def test_a_shard_that_is_missing(sharded, capsys):
    index = json.loads(Path("both/model.safetensors.index.json").read_text())
    gone = sorted(set(index["weight_map"].values()))[0]
    Path("both", gone).unlink()
    refused(capsys, f"names {gone}, which is missing", experts=["both"])


def test_a_tensor_that_is_not_where_the_index_says(sharded, capsys):
    index = json.loads(Path("both/model.safetensors.index.json").read_text())
    name = "model.norm.weight"
    place = Path("both", index["weight_map"][name])
    tensors = load_file(place)
    del tensors[name]
    save_file(tensors or {"other": torch.zeros(1)}, place, {"format": "pt"})
    refused(capsys, f"{place.name}: no {name}, which the index places there", experts=["both"])


@pytest.mark.parametrize("method", ["average", "ties", "dare", "dare_ties", "della"])
def test_a_tied_head_is_one_parameter_whether_stored_or_not(expert_folders, method):
    assert merge(method=method) == 0
    for name in ("model", *PAIR):
        tensors = load_file(f"{name}/model.safetensors")
        assert "lm_head.weight" not in tensors
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, f"{name}/model.safetensors", {"format": "pt"})
    assert merge(method=method, out="stored") == 0
    close(loaded("stored"), loaded("merged"), error=0)
    stored = AutoModelForCausalLM.from_pretrained("stored")
    assert stored.lm_head.weight is stored.model.embed_tokens.weight


def test_an_expert_that_unties_its_head(expert_folders, capsys):
    tensors = load_file("mnli/model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, "mnli/model.safetensors", {"format": "pt"})
    refused(capsys, "lm_head.weight differs from model.embed_tokens.weight, to which the base ties it")


def tuned(base, **settings):
    """A random adapter of a base in `lora`, and what PEFT merges."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 3, "target_modules": ["q_proj"], **settings})
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained("lora")
    return {name: tensor.clone() for name, tensor in state_of(model.merge_and_unload()).items()}


@pytest.mark.parametrize("start", ["pissa", "olora", "pissa_niter_2"])
def test_an_adapter_whose_base_is_a_residual(folder, capsys, start):
    tuned(folder, init_lora_weights=start)
    refused(capsys, f"init_lora_weights is '{start}', which changes the base", experts=["lora"])


def test_a_converted_pissa_adapter_is_the_trained_model(folder):
    torch.manual_seed(0)
    config = LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights="pissa")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    model.save_pretrained("start")
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained("lora", path_initial_model_for_weight_conversion="start")
    trained = AutoModelForCausalLM.from_pretrained(folder)
    assert merge(experts=["lora"]) == 0
    # PEFT has no base left to merge into, for its own is the residual: base plus the factors' product.
    tensors = load_file("lora/adapter_model.safetensors")
    expected = state_of(trained)
    for name in expected:
        A = tensors.get(f"base_model.model.{name.removesuffix('.weight')}.lora_A.weight")
        if A is not None:
            B = tensors[f"base_model.model.{name.removesuffix('.weight')}.lora_B.weight"]
            scaling = json.loads(Path("lora/adapter_config.json").read_text())
            expected[name] = expected[name] + B @ A * scaling["lora_alpha"] / scaling["r"]
    close(loaded("merged"), expected, 1e-5)


def test_an_adapter_in_a_folder_of_its_name(folder, capsys):
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config, "sql").save_pretrained("lora")
    refused(capsys, "lora: adapters in folders of their own, sql: give one of these", experts=["lora"])
    assert merge(experts=["lora/sql"]) == 0


def test_a_trained_head_on_a_tied_base(folder, capsys):
    tuned(folder, modules_to_save=["lm_head"])
    refused(capsys, "not change model.embed_tokens.weight as it does lm_head.weight", experts=["lora"])


def test_a_trained_head_on_an_untied_base(folder):
    untie(folder)
    whole = tuned(folder, modules_to_save=["lm_head"])
    assert merge(experts=["lora"]) == 0
    close(loaded("merged"), whole, 1e-5)


def untie(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    configured(folder, tie_word_embeddings=False)


QUANTISED = {
    "bnb": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    "gptq": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "awq in a part": {"text_config": {"quantization_config": {"quant_method": "awq"}}},
}


@pytest.mark.parametrize("what", list(QUANTISED))
def test_what_is_called_quantised(expert_folders, capsys, what):
    tuned("model")
    configured("mnli", **QUANTISED[what])
    method = str(QUANTISED[what]).split("'quant_method': '")[1].split("'")[0]
    words = f"mnli: quantised ({method}): give the model that it was made from, or load it with transformers"
    refused(capsys, words)
    refused(capsys, words, base="mnli", experts=["lora"])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8, torch.int32])
def test_what_is_packed_and_not_called_so(expert_folders, capsys, dtype):
    tensors = load_file("mnli/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(dtype)
    save_file(tensors, "mnli/model.safetensors", {"format": "pt"})
    refused(capsys, f"quantised ({name} is {str(dtype).removeprefix('torch.')})")


def bert(name, auto=BertForSequenceClassification, old=False):
    """A tiny BERT, as it was stored years ago or today."""
    torch.manual_seed(sum(map(ord, name)))
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = auto(BertConfig(**sizes, vocab_size=40, max_position_embeddings=20, num_labels=3)).eval()
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(name)
    if old:
        tensors = load_file(f"{name}/model.safetensors")
        renamed = {}
        for key, tensor in tensors.items():
            key = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            )
            renamed[key] = tensor
        prefix = "" if auto is BertModel else "bert."
        renamed[f"{prefix}embeddings.position_ids"] = torch.arange(20)[None]
        save_file(renamed, f"{name}/model.safetensors", {"format": "pt"})
    return {n: t.clone() for n, t in state_of(model).items()}


def test_a_bare_encoder_of_old_names_is_the_base_of_classifiers():
    start = bert("base", BertModel, old=True)
    states = [bert("one"), bert("two", old=True)]
    assert merge("scale=0.5", base="base", experts=["one", "two"], method="task_arithmetic") == 0
    body = [{n.removeprefix("bert."): t for n, t in s.items() if n.startswith("bert.")} for s in states]
    expected = {n: start[n] + 0.5 * (body[0][n] - start[n]) + 0.5 * (body[1][n] - start[n]) for n in start}
    close(loaded("merged", BertModel), expected)
    model = BertForSequenceClassification.from_pretrained("merged", num_labels=3)
    model.load_state_dict(load_file("merged/heads/two.safetensors"), strict=False)
    head = {
        "classifier.weight": states[1]["classifier.weight"],
        "classifier.bias": states[1]["classifier.bias"],
    }
    close(state_of(model), {**{f"bert.{n}": t for n, t in expected.items()}, **head})


def test_classifiers_of_old_names_are_merged_whole():
    states = [bert(name, old=name != "two") for name in ("base", "one", "two")]
    assert merge(base="base", experts=["one", "two"]) == 0
    mean = {n: (states[1][n] + states[2][n]) / 2 for n in states[0]}
    close(loaded("merged", BertForSequenceClassification), mean)


@pytest.mark.parametrize("of_base", [["yes", "no", "maybe"], ["LABEL_0", "LABEL_1", "LABEL_2"]])
def test_heads_of_other_classes_are_not_averaged(capsys, of_base):
    states = {name: bert(name) for name in ("base", "one", "two")}
    for name, labels in (("base", of_base), ("one", ["Yes", "no", "maybe"]), ("two", ["no", "maybe", "yes"])):
        configured(name, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
    assert merge(base="base", experts=["one", "two"]) == 0
    assert "classifier: missing from the experts, or of other shapes or classes" in capsys.readouterr().err
    mean = {n: (states["one"][n] + states["two"][n]) / 2 for n in states["base"]}
    heads = {n: t for n, t in states["base"].items() if n.startswith("classifier")}
    close(loaded("merged", BertForSequenceClassification), mean | heads)
    close(load_file("merged/heads/two.safetensors"), {n: states["two"][n] for n in heads})
    assert merge(base="base", experts=["one"], out="again") == 0
    close(loaded("again", BertForSequenceClassification), states["one"])


def test_another_architecture(expert_folders, capsys):
    bert("bert")
    refused(capsys, "expert bert: another architecture: it is a bert, the base a qwen2", experts=["bert"])


def test_what_lies_beside_the_weights_is_copied(expert_folders, folder):
    beside = {
        "modeling_own.py": "raise SystemExit('executed')",
        "LICENSE": "as you like",
        "chat_template.jinja": "{{ messages }}",
        "modules.json": json.dumps([{"path": ""}, {"path": "1_Pooling"}]),
        "1_Pooling/config.json": "{}",
        "merges.txt": "a b",
        "added_tokens.json": "{}",
    }
    left = ["README.md", "pytorch_model.bin", "optimizer.pt", "checkpoint-5/config.json", ".gitattributes"]
    left += ["mergekit_config.yml"]  # of a base that is itself a merge
    for name, text in {**beside, **dict.fromkeys(left, "old")}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    configured(folder, auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    assert merge(method="drm_h") == 0
    card = Path("merged/README.md").read_text()
    for name, text in beside.items():
        assert Path("merged", name).read_text() == text
        assert f"`{name}`" in card
    assert not [name for name in left[1:] if Path("merged", name).exists()]
    assert AutoTokenizer.from_pretrained("merged")("the cat").input_ids


def test_a_module_of_its_own_is_not_lost(expert_folders, folder, capsys):
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "2_Dense"}]))
    for name, value in (("model", 0.0), ("cola", 0.0), ("mnli", 1.0)):
        Path(name, "2_Dense").mkdir()
        save_file({"linear.weight": torch.full((2, 2), value)}, Path(name, "2_Dense/model.safetensors"))
    refused(capsys, "mnli/2_Dense/model.safetensors: differs from the base's, and is not merged")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", "{", "mnli/config.json is not JSON"),
        ("config.json", "[]", "mnli/config.json: no settings by name: download or save it again"),
        ("config.json", '{"quantization_config": "x"}', "expert mnli: mnli/config.json: "),
        ("adapter_config.json", "[1]", "mnli/adapter_config.json: no settings by name"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 3}}', "3 is not a safetensors file beside it"),
        ("model.safetensors.index.json", "[]", "index.json: no settings by name"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(expert_folders, capsys, file, text, words):
    if "index" in file:
        Path("mnli/model.safetensors").unlink()
    Path("mnli", file).write_text(text)
    refused(capsys, words)


def test_modules_that_are_no_list(expert_folders, folder, capsys):
    (folder / "modules.json").write_text('{"0": {"path": ""}}')
    refused(capsys, "model/modules.json: not a list of modules: download or save it again")


def unknown(*folders):
    for folder in folders:
        configured(
            folder, model_type="mine", architectures=["Mine"], auto_map={"AutoModel": "modeling_mine.M"}
        )


def test_an_architecture_that_transformers_lacks_is_merged_by_names(expert_folders, base, capsys):
    for name in ("model", *PAIR):
        tensors = load_file(f"{name}/model.safetensors")
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        save_file(tensors, f"{name}/model.safetensors", {"format": "pt"})
    unknown("model", *PAIR)
    assert merge(method="ties") == 0
    assert "merged by the names in the files, which must all agree" in capsys.readouterr().err
    expected = remerge.merge("ties", base, {task: expert_folders[task] for task in PAIR})
    # Tied here as it is everywhere: counted once, written as it was stored.
    tied = {"lm_head.weight": expected["model.embed_tokens.weight"]}
    close(load_file("merged/model.safetensors"), {**expected, **tied})


def test_names_that_differ_where_only_names_are_known(expert_folders, capsys):
    unknown("model", *PAIR)
    tensors = load_file("mnli/model.safetensors")
    tensors["extra"] = torch.zeros(2)
    save_file(tensors, "mnli/model.safetensors", {"format": "pt"})
    refused(capsys, "expert mnli: only it or the base has extra: give an expert with the base's tensors")


def renumbered(folder, change):
    """Change the tokens of an expert's tokenizer: their numbers by their texts."""
    shutil.copy("model/tokenizer_config.json", folder)
    given = json.loads(Path("model/tokenizer.json").read_text())
    change(given["model"]["vocab"])
    Path(folder, "tokenizer.json").write_text(json.dumps(given))


def test_a_tokenizer_with_other_numbers(expert_folders, capsys):
    def swap(vocabulary):
        vocabulary["the"], vocabulary["cat"] = vocabulary["cat"], vocabulary["the"]

    number = AutoTokenizer.from_pretrained("model").get_vocab()
    renumbered("cola", lambda vocabulary: None)
    renumbered("mnli", swap)
    words = f"expert mnli: its tokenizer is another: 'cat' is token {number['the']} there, {number['cat']} in"
    refused(capsys, words)
    tuned("model")
    renumbered("lora", swap)
    refused(capsys, "expert lora: its tokenizer is another", experts=["lora"])


def test_tokens_of_an_expert_alone(expert_folders, capsys):
    renumbered("mnli", lambda vocabulary: vocabulary.update({"odd": max(vocabulary.values()) + 1}))
    assert merge() == 0
    assert "odd: tokens of mnli alone: the base's tokenizer is kept" in capsys.readouterr().err
    assert "odd" not in AutoTokenizer.from_pretrained("merged").get_vocab()
    Path("mnli/tokenizer.json").write_text("{")
    assert merge(out="again") == 0
