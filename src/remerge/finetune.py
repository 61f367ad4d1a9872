"""Supervised fine-tuning of the base on one task, or on the union of all (transformers' Trainer)."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

from remerge.errors import UserError
from remerge.families import Example

IGNORED = -100
"""The label of positions that bear no loss (transformers' convention)."""


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune: the values of the configuration's `finetune`, and the seed."""

    learning_rate: float
    weight_decay: float
    batch_size: int
    device_batch_size: int | None
    steps: int
    scheduler: str
    warmup: float
    evaluations: int
    patience: int | None
    seed: int


def collate_for_loss(items: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A right-padded batch with labels on the answers alone."""
    length = max(len(item["input_ids"]) for item in items)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
    return {
        key: torch.tensor([item[key] + [pad] * (length - len(item[key])) for item in items])
        for key, pad in fill.items()
    }


def finetune(
    model: nn.Module, train: Sequence[Example], validation: Sequence[Example], recipe: Recipe, bf16: bool
) -> dict[str, Any]:
    """Train ``model`` in place.

    Returns:
        ``steps``, ``examples`` (seen), and the mean training ``loss`` in nats a token.

    Raises:
        UserError: the loss is no number: the learning rate is too high.
    """
    scratch = Path(tempfile.mkdtemp(prefix="remerge-"))
    at_once = min(recipe.device_batch_size or recipe.batch_size, recipe.batch_size)
    watch = recipe.evaluations > 0
    every = max(1, recipe.steps // max(1, recipe.evaluations))
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=recipe.steps,
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=at_once,
        gradient_accumulation_steps=recipe.batch_size // at_once,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=int(recipe.warmup * recipe.steps),
        train_sampling_strategy="group_by_length",
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=bf16,
        use_cpu=next(model.parameters()).device.type == "cpu",
        eval_strategy="steps" if watch else "no",
        save_strategy="steps" if recipe.patience else "no",
        eval_steps=every,
        save_steps=every,
        save_total_limit=1,
        save_only_model=True,
        load_best_model_at_end=recipe.patience is not None,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=max(1, recipe.steps // 10),
        report_to=[],
    )
    stop: list[TrainerCallback] = [EarlyStoppingCallback(recipe.patience)] if recipe.patience else []
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_items(train),
        eval_dataset=_items(validation) if watch else None,
        data_collator=collate_for_loss,
        callbacks=stop,
    )
    try:
        result = trainer.train()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    loss = result.training_loss
    if not loss < float("inf"):
        raise UserError(f"the training loss became {loss}: lower finetune.learning_rate")
    model.eval()
    steps = trainer.state.global_step
    return {"steps": steps, "examples": steps * recipe.batch_size, "loss": loss}


def save_folder(folder: Path, model: Any, tokenizer: Any) -> None:
    """Save model and tokenizer as a folder that appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _items(examples: Sequence[Example]) -> list[dict[str, list[int]]]:
    return [
        {
            "input_ids": e.prompt + e.answer,
            "attention_mask": [1] * e.length,
            "labels": [IGNORED] * len(e.prompt) + e.answer,
        }
        for e in examples
    ]
