"""Supervised fine-tuning of the base on one task, or on the union of all (transformers' Trainer)."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, PrinterCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from remerge.config import Finetune, Lora
from remerge.deltas import finite
from remerge.errors import Diverged, UserError, cause_of
from remerge.families import Example, Family
from remerge.families.linearised import Linearised
from remerge.files import write_folder, writing
from remerge.tau_jp import Penalty

CHECKPOINTS = 10
"""The number of checkpoints of a training without evaluations, from which it can resume."""

SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
"""Trainer's names; its own `constant` has no warmup."""

PARTS = ("*.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")
"""The files of a checkpoint besides Trainer's own state."""


class InOrder(Sampler[int]):
    """Batches of similar length, as grouped by Trainer, in an order that depends only on seed and epoch.

    Trainer's own order depends on all earlier random draws, which a resumed training has not made.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the next pass over the examples."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(self.seed + self.epoch)
        group: Callable[..., list[int]] = get_length_grouped_indices
        yield from group(self.lengths, self.batch_size, generator=drawn)


class Losses(TrainerCallback, ExportableState):
    """The sum of the losses of all steps so far, which checkpoints keep."""

    def __init__(self, total: float = 0.0) -> None:
        self.total = total

    def state(self) -> dict[str, Any]:
        """The state as Trainer saves it."""
        return {"args": {"total": self.total}, "attributes": {}}


class AnswerTrainer(Trainer):
    """A Trainer whose loss is the cross-entropy of the answers only, as the family reads them."""

    family: Family
    penalty: Callable[[nn.Module, int], Tensor] | None = None
    """A penalty on the model that is added to the loss at every step."""

    @property
    def losses(self) -> Losses:
        """The losses of all steps; a new object after a training was resumed."""
        found: Losses = next(c for c in self.callback_handler.callbacks if isinstance(c, Losses))
        return found

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        items: Any = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(item["input_ids"]) for item in items]
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return InOrder(lengths, batch, self.args.seed)

    def _run_epoch(self, *given: Any, **named: Any) -> None:
        """A pass over the examples; none if training had ended in the checkpoint that it resumes from."""
        kept: Any = self.state.stateful_callbacks
        if kept["TrainerControl"]["args"]["should_training_stop"]:
            self.control.should_training_stop = True
        else:
            run: Callable[..., None] = super()._run_epoch
            run(*given, **named)

    def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
        """Write the weights under the names by which Trainer loads them.

        `save_pretrained` gives some architectures' weights other names, and what Trainer does not find in a
        checkpoint, it leaves as it is.
        """
        model: Any = self.model

        def save(folder: Path) -> None:
            if isinstance(model, PeftModel):
                model.save_pretrained(str(folder))
            else:
                save_model(model, str(folder / SAFE_WEIGHTS_NAME))

        write_folder(Path(output_dir), save)

    def training_step(self, *given: Any, **named: Any) -> Tensor:
        """One step; training ends if the loss is not finite.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        loss: Tensor = super().training_step(*given, **named)
        if not bool(torch.isfinite(loss)):
            step = self.state.global_step + 1
            raise Diverged(f"step {step}: the training loss is {loss:.3g}: lower finetune.learning_rate")
        self.losses.total += loss.item()
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean over the answer tokens, or classes, of the whole step.

        Raises:
            UserError: nothing that is trained takes part in it.
        """
        batch = inputs["batch"]
        network = model.get_base_model() if isinstance(model, PeftModel) else model
        # Trainer sets the precision in the forward pass of an adapter's wrapper, which is not called here.
        with self.accelerator.autocast():
            logits = self.family.logits(network, batch)
        if model.training and not logits.requires_grad:
            raise UserError("finetune.lora.targets: no answer depends on these layers: name others")
        total = cross_entropy(logits, batch.targets, reduction="sum")
        loss = total / (len(batch.targets) if num_items_in_batch is None else num_items_in_batch)
        if self.penalty and model.training:
            at_step = self.penalty(network, self.state.global_step)
            # The last step of a pass may have fewer parts.
            loss = loss + at_step / self.current_gradient_accumulation_steps
        return (loss, {}) if return_outputs else loss


def finetune(
    family: Family,
    model: nn.Module,
    train: Sequence[Example],
    validation: Sequence[Example],
    recipe: Finetune,
    seed: int,
    checkpoints: Path,
    others: Sequence[Sequence[Example]] = (),
) -> tuple[nn.Module, dict[str, Any]]:
    """Train ``model``, in place, or an adapter on it.

    Args:
        family: how the model reads examples.
        model: the base, with a fresh head where the family has heads.
        train: the training examples.
        validation: the examples of evaluations, if the recipe asks for them.
        recipe: the configuration's `finetune`.
        seed: the seed of the order of the examples, of dropout and of adapters.
        checkpoints: a folder for this training only; it resumes from the last checkpoint there.
        others: for the recipe tau_jp, the other tasks' examples.

    Returns:
        The model or adapter, and ``steps``, ``examples`` (seen), the mean training ``loss`` in nats per
        token.

    Raises:
        Diverged: the loss or a weight is NaN or infinite: the learning rate is too high.
        UserError: an adapter finds no layers, or only such as no answer depends on.
    """
    device = next(model.parameters()).device
    trained = model if recipe.lora is None else _adapted(model, family.heads(model), recipe.lora, seed)
    watching: list[TrainerCallback] = [Losses()]
    watching += [EarlyStoppingCallback(recipe.patience)] if recipe.patience else []

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = family.collate([item["example"] for item in items], device)
        # Trainer uses these to count the terms of a step's mean loss; they are already shifted.
        return {"batch": batch, "labels": batch.targets, "shift_labels": batch.targets}

    trainer = AnswerTrainer(
        model=trained,
        args=_arguments(recipe, seed, checkpoints, device),
        train_dataset=_items(train),
        eval_dataset=_items(validation) if recipe.evaluations else None,
        data_collator=collate,
        callbacks=watching,
    )
    if "TQDM_DISABLE" in os.environ:
        # Without progress bars there are no lines of losses either.
        trainer.remove_callback(PrinterCallback)
    trainer.family = family
    if isinstance(family, Linearised) and others:
        trainer.penalty = Penalty(family, others, recipe.penalty, recipe.penalty_inputs, seed)
    trainer.model_accepts_loss_kwargs = True
    with writing(checkpoints):
        trainer.train(resume_from_checkpoint=_last_whole(checkpoints))
    steps = trainer.state.global_step
    for name, theta in trained.named_parameters():
        if not finite(theta):
            raise Diverged(f"step {steps}: {name} contains NaN or infinity: lower finetune.learning_rate")
    trained.eval()
    # The last step of a pass takes what is left of it.
    passes, more = divmod(steps, ceil(len(train) / recipe.batch_size))
    seen = passes * len(train) + more * recipe.batch_size
    return trained, {"steps": steps, "examples": seen, "loss": trainer.losses.total / steps}


def _arguments(recipe: Finetune, seed: int, checkpoints: Path, device: torch.device) -> TrainingArguments:
    """The recipe as Trainer reads it."""
    every = max(1, recipe.steps // (recipe.evaluations or CHECKPOINTS))
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.at_once,
        per_device_eval_batch_size=recipe.at_once,
        gradient_accumulation_steps=recipe.batch_size // recipe.at_once,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        lr_scheduler_type=SCHEDULERS[recipe.scheduler],
        warmup_steps=int(recipe.warmup * recipe.steps),
        seed=seed,
        data_seed=seed,
        # In half precision, rounding would drown a linearised model's step away from the base.
        bf16=device.type == "cuda" and not recipe.linear,
        use_cpu=device.type == "cpu",
        eval_strategy="steps" if recipe.evaluations else "no",
        save_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=1,
        restore_callback_states_from_checkpoint=True,
        load_best_model_at_end=recipe.patience is not None,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        # Otherwise Trainer ignores steps whose loss is not finite.
        logging_nan_inf_filter=False,
        logging_steps=max(1, recipe.steps // 10),
        remove_unused_columns=False,
        # Batches are made on the device.
        dataloader_pin_memory=False,
        # Otherwise Trainer looks for them in the model's arguments, and a vision tower has none.
        label_names=["labels"],
        report_to=[],
    )
    # Trainer would divide a step among all GPUs that it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _last_whole(checkpoints: Path) -> str | None:
    """The last complete checkpoint; one that is half written or half deleted is removed.

    Trainer writes its own state last. What else is missing, it begins anew or refuses.
    """
    whole = []
    for folder in checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            json.loads((folder / TRAINER_STATE_NAME).read_bytes())
            for part in PARTS:
                next(folder.glob(part))
            whole.append(folder)
        except (OSError, ValueError, StopIteration):
            shutil.rmtree(folder)
    return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None


def _adapted(model: Any, heads: list[str], lora: Lora, seed: int) -> nn.Module:
    """A LoRA adapter on the model; its heads are trained in full."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=heads or None,
    )
    layers = [name for name, _ in model.named_modules()]
    for target in lora.targets:
        # PEFT is content if one of them is there.
        if not any(f".{layer}".endswith(f".{target}") for layer in layers):
            raise UserError(f"finetune.lora.targets: the base has no {target}: name linear layers of it")
    torch.manual_seed(seed)
    try:
        adapted: nn.Module = get_peft_model(model, config)
    except ValueError as error:
        cause = cause_of(error)
        raise UserError(f"finetune.lora.targets: {cause}: name linear layers of the base") from None
    return adapted


def _items(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Examples with the lengths by which they are grouped."""
    return [{"input_ids": range(e.length), "example": e} for e in examples]
