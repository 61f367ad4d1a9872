"""A training that is killed goes on from its last checkpoint and ends in the same bytes."""

import copy

import pytest
import torch
from transformers import TrainingArguments

from remerge.config import Finetune
from remerge.families import placed
from remerge.finetune import AnswerTrainer, finetune

LORA = {"rank": 2, "alpha": 4, "targets": ["q_proj", "up_proj"], "dropout": 0.1}
RECIPES = {
    "plain": {"steps": 20, "batch_size": 4},
    "lora": {"steps": 20, "batch_size": 4, "device_batch_size": 2, "lora": LORA},
    "watched": {"steps": 20, "batch_size": 8, "evaluations": 10, "patience": 2},
}


class Killed(Exception):
    pass


class OfGpus(TrainingArguments):
    """Trainer's arguments on a machine with two GPUs."""

    def __post_init__(self):
        assert not self.dataloader_pin_memory
        self.bf16 = True
        super().__post_init__()
        self._n_gpu = 2


def trained(family, base, examples, recipe, folder):
    given = examples("cola", 24), examples("cola", 8), Finetune(**recipe)
    model, told = finetune(family, copy.deepcopy(base), *given, 3, folder)
    return {name: theta.clone() for name, theta in model.state_dict().items()}, told


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("torn", [False, True])
def test_killed_and_resumed_is_as_never_killed(family, model, examples, tmp_path, monkeypatch, recipe, torn):
    model.config.attention_dropout = 0.1
    recipe, step, seen = recipe | {"learning_rate": 1e-3}, AnswerTrainer.training_step, []
    expected, told = trained(family, model, examples, recipe, tmp_path / "whole")

    def dying(self, *given, **named):
        if self.state.global_step == 13:
            raise Killed
        return step(self, *given, **named)

    def counting(self, *given, **named):
        seen.append(self.state.global_step)
        return step(self, *given, **named)

    monkeypatch.setattr(AnswerTrainer, "training_step", dying)
    with pytest.raises(Killed):
        trained(family, model, examples, recipe, tmp_path / "killed")
    if torn:
        (tmp_path / "killed/checkpoint-13").mkdir()
        (tmp_path / "killed/checkpoint-13/model.safetensors").write_bytes(b"half")
    monkeypatch.setattr(AnswerTrainer, "training_step", counting)
    found, retold = trained(family, model, examples, recipe, tmp_path / "killed")
    assert seen[0] == 12
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert retold == told


@pytest.mark.parametrize("recipe", [RECIPES["plain"], RECIPES["lora"]], ids=["plain", "lora"])
def test_a_gpu_trains_in_half_precision_on_batches_that_are_there_whatever_else_it_sees(
    family, model, examples, tmp_path, monkeypatch, recipe
):
    """Trainer would pin what is on a GPU, and divide steps among several; adapters it leaves in float32."""
    found = []
    monkeypatch.setattr("remerge.finetune.TrainingArguments", OfGpus)
    model.model.layers[0].mlp.gate_proj.register_forward_hook(lambda *given: found.append(given[2].dtype))
    finetune(family, model, examples("cola", 24), [], Finetune(**recipe), 3, tmp_path / "kept")
    assert len(found) == 20 * (4 // recipe.get("device_batch_size", 4)) and {*found} == {torch.bfloat16}
    assert all(theta.dtype == torch.float32 for theta in model.parameters())


def test_what_is_on_a_gpu_is_not_pinned():
    """Trainer places batches once more."""

    class There:
        device = torch.device("cuda:0")

        def to(self, device, non_blocking):
            return self

    there = There()
    assert placed(there, torch.device("cuda:0")) is there
