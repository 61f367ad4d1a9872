"""SmolLM2-135M with adapters for two GLUE tasks: the records are what transformers and PEFT measure."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from remerge.__main__ import main

TASKS = ["cola", "sst2"]
SIZES = {"train": 240, "validation": 8, "test": 40}
RECIPE = {"steps": 30, "batch_size": 8, "learning_rate": 2e-3, "multitask": False}
RECIPE |= {"lora": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}}
VARIANTS = ["average", "ties", "knots"]
QUESTIONS = {"cola": "Acceptable or unacceptable", "sst2": "Positive or negative"}


@pytest.fixture(scope="module")
def smollm(packaged):
    return packaged("smollm2-135m")


def prompt(task):
    return f"{QUESTIONS[task]}?\n{{sentence}}\nAnswer:"


@pytest.fixture(scope="module")
def finished(smollm, campaign):
    base = {"family": "causal_lm", "source": str(smollm)}
    return campaign(base, TASKS, prompt, SIZES, VARIANTS, finetune=RECIPE)


@torch.no_grad()
def answer(model, tokenizer, text):
    ids = tokenizer(text, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=6, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(out[0, ids.input_ids.shape[1] :], skip_special_tokens=True).strip()


def test_records_are_what_transformers_measures(finished, smollm, rows):
    results, exported = finished
    assert len(exported) == len(VARIANTS)
    answers = {"cola": ["unacceptable", "acceptable"], "sst2": ["negative", "positive"]}
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    for folder, record in exported:
        if (folder / "adapter_config.json").exists():
            base = AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32)
            model = PeftModel.from_pretrained(base, folder).merge_and_unload().eval()
        else:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for task in TASKS:
            asked = rows(results, task)
            told = [answer(model, tokenizer, prompt(task).format(**row)) for row in asked]
            right = sum(text == answers[task][row["label"]] for text, row in zip(told, asked, strict=True))
            assert record["scores"][task]["value"] == pytest.approx(right / len(asked), abs=1e-9), folder


def test_adapters_are_merged_standalone_as_in_the_pipeline(finished, smollm, tmp_path):
    results, exported = finished
    words = [word for task in TASKS for word in ("--expert", str(results / f"experts/{task}"))]
    assert (
        main(["merge", "--method", "ties", "--base", str(smollm), *words, "--out", str(tmp_path / "m")]) == 0
    )
    (folder,) = [f for f, _ in exported if f.parent.name == "ties"]
    found, expected = (AutoModelForCausalLM.from_pretrained(f).state_dict() for f in (tmp_path / "m", folder))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=0)
