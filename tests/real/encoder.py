"""MiniLM fine-tuned on three GLUE tasks and merged in many ways: the records are what transformers finds."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from remerge.__main__ import main

TASKS = ["cola", "mrpc", "rte"]
SIZES = {"train": 200, "validation": 20, "test": 40}
VARIANTS = ["average", "task_arithmetic", "multi_slerp", "karcher", "slerp", "ties", "dare", "dare_ties"]
VARIANTS += ["della", "breadcrumbs", "drm_h", "tsv_m", "fisher", "regmean"]
RECIPE = {"steps": 12, "batch_size": 16, "learning_rate": 2e-4, "multitask": False}


@pytest.fixture(scope="module")
def minilm(packaged):
    return packaged("minilm")


@pytest.fixture(scope="module")
def finished(minilm, campaign):
    def prompts(task):
        return "{sentence}" if task == "cola" else "{sentence1} [SEP] {sentence2}"

    base = {"family": "classifier", "source": str(minilm)}
    return campaign(base, TASKS, prompts, SIZES, VARIANTS, finetune=RECIPE, statistics={"inputs": 16})


@torch.no_grad()
def accuracy(model, tokenizer, rows, task):
    right = 0
    for row in rows:
        text = row["sentence"] if task == "cola" else f"{row['sentence1']} [SEP] {row['sentence2']}"
        inputs = tokenizer(text, return_tensors="pt", truncation=True)
        right += model(**inputs).logits.argmax().item() == row["label"]
    return right / len(rows)


def test_records_are_what_transformers_measures(finished, rows):
    results, exported = finished
    assert len(exported) == 3 * len(VARIANTS) + len(VARIANTS) - 1
    for folder, record in exported:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for task in record["tasks"]:
            model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
            model.load_state_dict(load_file(folder / f"heads/{task}.safetensors"), strict=False)
            found = accuracy(model, tokenizer, rows(results, task), task)
            assert record["scores"][task]["value"] == pytest.approx(found, abs=1e-9), (folder, task)


def test_the_standalone_merge_is_the_pipeline_s(finished, minilm, tmp_path):
    results, exported = finished
    experts = [results / f"experts/{task}" for task in TASKS]
    words = [word for expert in experts for word in ("--expert", str(expert))]
    assert (
        main(["merge", "--method", "ties", "--base", str(minilm), *words, "--out", str(tmp_path / "m")]) == 0
    )
    (folder,) = [f for f, record in exported if f.parent.name == "ties" and len(record["tasks"]) == 3]
    expected = load_file(folder / "model.safetensors")
    # The base has no head, and its pooler is one of its tensors.
    found = load_file(tmp_path / "m/model.safetensors")
    for name, tensor in found.items():
        if not name.startswith("pooler"):
            torch.testing.assert_close(tensor, expected[f"bert.{name}"], atol=1e-5, rtol=0)
    assert json.loads((tmp_path / "m/config.json").read_text())["architectures"] == ["BertModel"]
