"""`remerge new`: what it sees of checkpoints of every family, and that what it writes passes the check."""

import json
import re
import shutil
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CLIPVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from remerge import config as configuration
from remerge.__main__ import main

MODELS = Path(__file__).parent.parent.parent / "models"
ROWS = {"text": ["a cat sleeps", "no cat sleeps", "the dog ran"] * 8, "label": [0, 1, 0] * 8}


def expert(auto, name, out, seed, **settings):
    """A model near a miniature base, as `save_pretrained` writes it."""
    torch.manual_seed(seed)
    model = auto.from_pretrained(MODELS / f"miniature-{name}", **settings)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.save_pretrained(out)


@pytest.fixture(autouse=True)
def apart(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def new(*experts, base, out="mine.yaml"):
    words = [word for name in experts for word in ("--expert", name)]
    return main(["new", out, "--base", str(base), *words])


def fill_in(out="mine.yaml", **replaced):
    """Name the data, as the owner of the checkpoints does."""
    text = Path(out).read_text()
    for name, value in {"{TEXT}": "{text} :", "ANSWER": "answer", "LABEL ": "label ", **replaced}.items():
        text = text.replace(name, value)
    Path(out).write_text(text)
    answered = pd.DataFrame({**ROWS, "answer": ["yes", "no", "yes"] * 8})
    for task in yaml.safe_load(text)["tasks"]:
        Path("data", task).mkdir(parents=True)
        for split in ("train", "validation", "test"):
            # No example stands in two splits.
            split_rows = answered.assign(text=answered.text + f" {split}")
            split_rows.to_json(f"data/{task}/{split}.jsonl", orient="records", lines=True)


def checked(capsys, out="mine.yaml"):
    capsys.readouterr()
    status = main(["check", out])
    assert status == 0, capsys.readouterr().err
    return configuration.load(Path(out))


def draw_images(tasks):
    """Put images in the place of texts."""
    for task in tasks:
        for number, split in enumerate(("train", "validation", "test")):
            files = []
            for i in range(24):
                file = BytesIO()
                Image.new("RGB", (8, 8), (10 * i, 80 * number, 0)).save(file, "png")
                files.append({"bytes": file.getvalue(), "path": None})
            Path(f"data/{task}/{split}.jsonl").unlink()
            pd.DataFrame({"image": files, "label": ROWS["label"]}).to_parquet(f"data/{task}/{split}.parquet")


@pytest.mark.parametrize(
    ("name", "auto", "family"),
    [("qwen2", AutoModelForCausalLM, "causal_lm"), ("t5", AutoModelForSeq2SeqLM, "seq2seq")],
)
def test_models_that_speak(capsys, name, auto, family):
    expert(auto, name, "experts/first", 1)
    expert(auto, name, "second", 2)
    base = MODELS / f"miniature-{name}"
    assert new("experts/first", "b=./second", base=base) == 0
    assert main(["check", "mine.yaml"]) == 2
    assert "tasks.first.source: data/first: no such folder" in capsys.readouterr().err
    fill_in()
    config = checked(capsys)
    # What works without a Snakefile in the folder, too.
    assert "#   remerge run mine.yaml " in Path("mine.yaml").read_text()
    assert (config.base.family, config.base.dtype, list(config.tasks)) == (family, "float32", ["first", "b"])
    assert config.tasks["b"].expert == "./second"
    assert "slerp" in [variant.name for variant in config.merge.variants]


def test_heads_that_name_their_classes(capsys):
    auto, base = AutoModelForSequenceClassification, MODELS / "miniature-deberta"
    labels = {"id2label": {0: "bad", 1: "good: really"}, "label2id": {"bad": 0, "good: really": 1}}
    expert(auto, "deberta", "first", 1, **labels)
    expert(auto, "deberta", "second", 2, num_labels=3)
    assert new("first", "second", base=base) == 0
    written = Path("mine.yaml").read_text()
    assert "answers: [] # the 3 classes of its head" in written
    assert main(["check", "mine.yaml"]) == 2
    assert "tasks.second: classifier answers with classes: name them in answers" in capsys.readouterr().err
    fill_in(**{"answers: []": "answers: [x, y, z]"})
    config = checked(capsys)
    assert config.base.family == "classifier"
    assert config.tasks["first"].answers == ["bad", "good: really"]


def test_adapters_with_heads(capsys):
    base = MODELS / "miniature-llama"
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        model.config.pad_token_id = 0
        lora = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(name)
    assert new("first", "second", base=base) == 0
    assert 'expert: "./first" # an adapter' in Path("mine.yaml").read_text()
    fill_in(**{"answers: []": "answers: [x, y]"})
    config = checked(capsys)
    assert config.base.family == "classifier"
    assert "knots" in [variant.name for variant in config.merge.variants]


def test_adapters_with_the_tokenizer_of_their_base(capsys):
    """Transformers reads it as Qwen's own beside a Qwen2, and as it is saved beside an adapter."""
    AutoModelForCausalLM.from_pretrained(MODELS / "miniature-qwen2").save_pretrained("base")
    shutil.copy(MODELS / "miniature-qwen2/tokenizer.json", "base")
    Path("base/tokenizer_config.json").write_text('{"eos_token": "<eos>", "pad_token": "<pad>"}')
    assert "<|endoftext|>" in AutoTokenizer.from_pretrained("base").get_vocab()
    for name in ("first", "second"):
        model = AutoModelForCausalLM.from_pretrained("base")
        lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(f"base/{file}", name)
    assert new("first", "second", base="base") == 0
    assert "tokens added" not in Path("mine.yaml").read_text()


def test_images_with_heads(capsys):
    """Of a model, or of an adapter, whose own configuration does not say what it was trained for."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    for seed, (name, classes) in enumerate({"base": 9, "first": 2, "second": 3}.items()):
        torch.manual_seed(seed)
        config = ViTConfig(image_size=8, patch_size=4, num_labels=classes, **shape)
        ViTForImageClassification(config).save_pretrained(name)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained("base")
    model = ViTForImageClassification.from_pretrained("base", num_labels=2, ignore_mismatched_sizes=True)
    lora = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["classifier"])
    get_peft_model(model, lora).save_pretrained("third")
    assert new("first", "second", "third", base="base") == 0
    written = Path("mine.yaml").read_text()
    assert "family: image_classifier" in written and "captions" not in written and "prompt" not in written
    for classes in (2, 3, 2):
        answers = [*"xyz"[:classes]]
        written = written.replace(f"[] # the {classes} classes of its head", f"{answers} # of its head", 1)
    Path("mine.yaml").write_text(written)
    fill_in(**{"IMAGE": "image"})
    draw_images(("first", "second", "third"))
    assert checked(capsys).base.family == "image_classifier"


def test_towers_of_images(capsys):
    for seed, name in enumerate(("first", "second")):
        expert(CLIPVisionModel, "clip", name, seed)
    assert new("first", "second", base=MODELS / "miniature-clip") == 0
    fill_in(**{"answers: []": "answers: [x, y]", "IMAGE": "image"})
    draw_images(("first", "second"))
    assert checked(capsys).base.family == "clip"


def test_half_precision_and_added_tokens(capsys):
    base = MODELS / "miniature-qwen2"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained("base")
    words = AutoTokenizer.from_pretrained(base)
    words.save_pretrained("base")
    expert(AutoModelForCausalLM, "qwen2", "first", 1)
    words.add_tokens(["<more>"])
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(words))
    model.save_pretrained("second")
    words.save_pretrained("second")
    assert new("first", "second", base="base") == 0
    fill_in()
    config = checked(capsys)
    assert (config.base.dtype, config.base.vocabulary) == ("bfloat16", "common")
    assert "# tokens added: 1" in Path("mine.yaml").read_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"experts": ["first"]}, "two experts or more"),
        ({"experts": ["first", "empty"]}, "empty: no model.safetensors"),
        ({"experts": ["first", "x=first/config.json"]}, "first/config.json: neither a local folder"),
        ({"experts": ["first", "./gone"]}, "./gone: no such folder"),
        ({"experts": ["first", "t5"]}, "another architecture: it is a t5, the base a qwen2"),
        ({"experts": ["first", "wide"]}, "expert wide: "),
        ({"experts": ["first", "first=second"]}, "first is already in use"),
        ({"experts": ["first", "base=second"]}, "base is the name of a reference model"),
        ({"experts": ["first", "a b=second"]}, "name has only letters"),
        ({"experts": ["first", "second"], "base": "empty"}, "empty: no model.safetensors"),
        ({"experts": ["first", "second"], "out": "there.yaml"}, "there.yaml exists"),
        ({"experts": ["first", "second"], "out": "no folder"}, "no folder: its name becomes the benchmark's"),
        ({"experts": ["first", "headed"]}, "first is a causal_lm, headed a classifier"),
        ({"experts": ["first", "bare"]}, "bare/config.json: No such file or directory: download or save"),
    ],
)
def test_what_is_no_checkpoint_of_the_base(monkeypatch, capsys, given, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = MODELS / "miniature-qwen2"
    expert(AutoModelForCausalLM, "qwen2", "first", 1)
    expert(AutoModelForCausalLM, "qwen2", "second", 2)
    expert(AutoModelForSeq2SeqLM, "t5", "t5", 3)
    expert(AutoModelForSequenceClassification, "qwen2", "headed", 4)
    wide = AutoModelForCausalLM.from_pretrained(base)
    wide.resize_token_embeddings(wide.config.vocab_size + 3)
    wide.save_pretrained("wide")
    Path("empty").mkdir()
    Path("bare").mkdir()
    shutil.copy("second/model.safetensors", "bare")
    Path("there.yaml").write_text("benchmark: there\n")
    before = sorted(Path().iterdir())
    capsys.readouterr()
    experts = given.pop("experts")
    assert new(*experts, **{"base": base, **given}) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("remerge: ") and words in line, line
    assert sorted(Path().iterdir()) == before


def test_a_base_that_does_not_answer(capsys):
    expert(AutoModelForMaskedLM, "deberta", "first", 1)
    expert(AutoModelForMaskedLM, "deberta", "second", 2)
    assert new("first", "second", base=MODELS / "miniature-deberta") == 2
    assert "has a head that gives answers" in capsys.readouterr().err


def test_the_file_is_within_its_lines():
    for name in ("first", "second"):
        expert(AutoModelForCausalLM, "qwen2", name, 1)
    assert new("first", "second", base=MODELS / "miniature-qwen2") == 0
    lines = Path("mine.yaml").read_text().splitlines()
    assert max(map(len, lines)) <= 120
    assert not any(re.search(r"\s$", line) for line in lines)
    assert json.dumps(configuration.load(Path("mine.yaml")).benchmark) == '"mine"'
