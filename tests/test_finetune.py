"""A training that is killed goes on from its last checkpoint and ends in the same bytes."""

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from remerge.config import Finetune
from remerge.errors import UserError
from remerge.finetune import AnswerTrainer, finetune

LORA = {"rank": 2, "alpha": 4, "targets": ["q_proj", "up_proj"], "dropout": 0.1}
RECIPES = {
    "plain": {"steps": 20, "batch_size": 4},
    "lora": {"steps": 20, "batch_size": 4, "device_batch_size": 2, "lora": LORA},
    "watched": {"steps": 20, "batch_size": 8, "evaluations": 10, "patience": 2},
}


class Killed(Exception):
    pass


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


def test_of_several_gpus_one_trains(family, model, examples, tmp_path, monkeypatch):
    expected, told = trained(family, model, examples, RECIPES["plain"], tmp_path / "one")
    found = TrainingArguments.__post_init__

    def several(self):
        found(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", several)
    state, again = trained(family, model, examples, RECIPES["plain"], tmp_path / "several")
    assert again == told
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_gpu_that_cannot_train(family, examples, tmp_path):
    second = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda:1"))]))
    with pytest.raises(UserError, match="cuda:1: only the first GPU trains: set CUDA_VISIBLE_DEVICES=1"):
        finetune(family, second, examples("cola", 4), [], Finetune(steps=1), 0, tmp_path)
