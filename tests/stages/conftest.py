"""Experts that exist, whole or adapters, as a benchmark takes them."""

from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig
from stages.trained import adapter, full

from remerge.config import load
from remerge.stages import base, experts


def lora(generator, task):
    targets = ["q_proj", "up_proj"]
    config = LoraConfig(r=2, lora_alpha=3, target_modules=targets, task_type="CAUSAL_LM")
    adapter(config, "lora_", generator, task)


@pytest.fixture(params=[full, lora])
def existing(request, tmp_path, monkeypatch, model, tokenizer):
    """A benchmark in the working directory, of a base and an existing expert of each of its tasks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tokenizer.save_pretrained("base")
    model.save_pretrained("base")
    generator = torch.Generator().manual_seed(4)

    def make(tasks, variant, **sections):
        raw = {"benchmark": "b", "base": {"source": "./base"}, "merge": {"variants": [variant]}, **sections}
        raw["tasks"] = {
            task: {"source": "miniature", "expert": f"./{task}"} | asked for task, asked in tasks.items()
        }
        Path("b.yaml").write_text(yaml.safe_dump(raw))
        config = load(Path("b.yaml"))
        base.run(config)
        for task in tasks:
            request.param(generator, task)
            experts.run(config, task)
        return config

    return make
