"""A training that is killed goes on from its last checkpoint and ends in the same bytes."""

import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from remerge.config import Finetune
from remerge.errors import UserError
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


def by_hand(family, model, examples, recipe, seed):
    """The training as the configuration describes it, without Trainer."""
    model = copy.deepcopy(model).train()
    decayed = [p for n, p in model.named_parameters() if p.ndim > 1]
    others = [p for n, p in model.named_parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups)
    order, warm, rest = [], int(recipe.warmup * recipe.steps), 0
    for step in range(recipe.steps):
        if not order:
            drawn = torch.Generator().manual_seed(seed + rest)
            lengths, rest = [e.length for e in examples], rest + 1
            order = get_length_grouped_indices(lengths, recipe.batch_size, generator=drawn)
        taken, order = order[: recipe.batch_size], order[recipe.batch_size :]
        done = (step - warm) / (recipe.steps - warm)
        late = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}
        share = step / warm if step < warm else late[recipe.scheduler]
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * share
        batch = family.collate([examples[i] for i in taken], torch.device("cpu"))
        optimizer.zero_grad()
        cross_entropy(family.logits(model, batch), batch.targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return dict(model.named_parameters())


def trained(family, base, examples, recipe, folder):
    given = examples("cola", 24), examples("cola", 8), Finetune(**recipe)
    model, told = finetune(family, copy.deepcopy(base), *given, 3, folder)
    return {name: theta.clone() for name, theta in model.state_dict().items()}, told


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("at_once", [8, 2])
def test_a_training_is_as_by_hand(family, model, examples, tmp_path, scheduler, at_once):
    """Passes end in a smaller batch, of fewer parts."""
    recipe = Finetune(
        steps=14,
        batch_size=8,
        device_batch_size=at_once,
        learning_rate=1e-3,
        weight_decay=0.3,
        scheduler=scheduler,
        warmup=0.3,
    )
    given = examples("cola", 19)
    expected = by_hand(family, model, given, recipe, 3)
    found, told = finetune(family, copy.deepcopy(model), given, [], recipe, 3, tmp_path)
    assert told["examples"] == 4 * 19 + 2 * 8
    for name, theta in found.named_parameters():
        torch.testing.assert_close(theta, expected[name], atol=2e-5, rtol=1e-4)


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


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_killed_when_all_steps_are_done_is_as_never_killed(
    family, model, examples, tmp_path, monkeypatch, recipe
):
    recipe = recipe | {"learning_rate": 1e-2, "scheduler": "constant"}
    expected, told = trained(family, model, examples, recipe, tmp_path / "whole")

    def dying(self, *given):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(AnswerTrainer, "_finalize_training", dying)
        trained(family, model, examples, recipe, tmp_path / "killed")
    found, retold = trained(family, model, examples, recipe, tmp_path / "killed")
    assert retold == told
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("lost", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
def test_a_checkpoint_that_is_half_deleted_is_no_checkpoint(family, model, examples, tmp_path, lost):
    recipe = RECIPES["plain"] | {"learning_rate": 1e-3}
    expected, told = trained(family, model, examples, recipe, tmp_path)
    (tmp_path / "checkpoint-20" / lost).unlink()
    found, retold = trained(family, model, examples, recipe, tmp_path)
    assert retold == told
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("recipe", [RECIPES["plain"], RECIPES["lora"]], ids=["plain", "lora"])
def test_others_can_resume_what_the_user_lets_them_read(family, model, examples, tmp_path, recipe):
    """Safetensors writes files for one user alone."""
    trained(family, model, examples, recipe, tmp_path)
    (tmp_path / "plain").touch()
    mode = (tmp_path / "plain").stat().st_mode
    written = [file for file in (tmp_path / "checkpoint-20").iterdir() if file.is_file()]
    assert len(written) > 4 and all(file.stat().st_mode == mode for file in written)


@pytest.mark.parametrize("target", ["q_projj", "proj", "out_proj"])
def test_an_adapter_on_a_layer_that_is_not_there_is_refused(family, model, examples, tmp_path, target):
    recipe = Finetune(steps=2, batch_size=2, lora={"targets": ["q_proj", target]})
    with pytest.raises(UserError, match=f"the base has no {target}: name linear layers of it"):
        finetune(family, model, examples("cola", 4), [], recipe, 0, tmp_path)


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
