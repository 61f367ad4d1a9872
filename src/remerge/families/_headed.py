"""Bodies with a head for each task, which is trained with its expert and never merged."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from remerge.checkpoints.architecture import HEADS, INNER
from remerge.checkpoints.models import head_tensors, head_width, load_whole
from remerge.errors import UserError
from remerge.families import Batch, Example, Head, most_likely
from remerge.families.heads import Heads, route


class Headed:
    """Models that end in a head of transformers; classes are numbered in the order of a task's answers."""

    auto: Any
    """The transformers class that loads its models."""

    processor: Any

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A folder's model without its head, in evaluation mode.

        Raises:
            UserError: the folder's weights are missing, damaged or from another architecture.
        """
        model: Any = load_whole(self.auto, folder, dtype, may_lack=HEADS).to(device)
        for name, child in list(model.named_children()):
            if name in HEADS:
                setattr(model, name, Heads(child.to(device)))
        if not self.heads(model):
            raise UserError(f"{folder}: a {type(model).__name__} has no head of a known name: give another")
        bare: nn.Module = model
        return bare

    def equip(self, model: nn.Module, heads: Mapping[str, Head]) -> None:
        """Give the model these tasks' heads: a single fresh one in its usual place, others in `Heads`.

        Raises:
            UserError: a checkpoint has no head, or one of another width.
        """
        places = {n: child for n, child in model.named_children() if isinstance(child, Heads)}
        for task, head in heads.items():
            if head.folder is not None:
                stored = _stored(head.folder, task, head, list(places))
                for name, place in places.items():
                    start = f"{name}."
                    place.add(
                        task, {n.removeprefix(start): t for n, t in stored.items() if n.startswith(start)}
                    )
                continue
            for name, place in places.items():
                fresh = _fresh(model, name, place.template, len(head.answers))
                if len(heads) == 1:
                    setattr(model, name, fresh)
                else:
                    place.heads[task] = fresh
            if len(heads) == 1:
                whole: Any = model
                whole.config.id2label = dict(enumerate(head.answers))
                whole.config.label2id = {answer: i for i, answer in enumerate(head.answers)}

    def heads(self, model: nn.Module) -> list[str]:
        """The names of the model's children that are heads."""
        return [name for name, _ in model.named_children() if name in HEADS]

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model and its processor; several heads get files `heads/<task>.safetensors`."""
        whole: Any = model
        places = {f"{path}.": module for path, module in model.named_modules() if isinstance(module, Heads)}
        # PEFT itself leaves out the weights that it did not train.
        body = {n: t for n, t in whole.state_dict().items() if not n.startswith(tuple(places))}
        whole.save_pretrained(folder, state_dict=body if isinstance(model, PreTrainedModel) else None)
        self.processor.save_pretrained(folder)
        owned: dict[str, dict[str, Tensor]] = {}
        for path, place in places.items():
            # PEFT also keeps the untrained heads in a model with an adapter.
            if path.endswith("original_module."):
                continue
            name = next(part for part in path.split(".") if part in HEADS)
            for task, head in place.heads.items():
                tensors = {f"{name}.{key}": t.contiguous() for key, t in head.state_dict().items()}
                owned.setdefault(task, {}).update(tensors)
        for task, tensors in owned.items():
            (folder / "heads").mkdir(exist_ok=True)
            save_file(tensors, folder / "heads" / f"{task}.safetensors")

    def labels(self, prompt: str, answers: Sequence[str]) -> None:
        """None: a head has no answers other than the task's."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits of the classes, float32 ``[B, C]``, where the widest head has C classes."""
        route(model, batch.tasks)
        # A decoder would keep its keys and values, which nobody reads.
        keeps = "use_cache" in signature(model.forward).parameters
        logits: Tensor = model(**batch.inputs, **({"use_cache": False} if keeps else {})).logits
        return logits.float()

    def greedy(
        self, model: nn.Module, examples: Sequence[Example], longest: int | None = None
    ) -> list[list[int]]:
        """Each input's most likely class."""
        family: Any = self
        return most_likely(family, model, examples)


def _stored(folder: Path, task: str, head: Head, places: list[str]) -> dict[str, Tensor]:
    """A checkpoint's head; it must have as many classes as the task has answers."""
    stored = head_tensors(folder, task, places)
    width = head_width(stored)
    if width != len(head.answers):
        raise UserError(
            f"{folder}: the head of {task} has {width} classes, and tasks.{task}.answers "
            f"names {len(head.answers)}: name every class in the order of the head's outputs"
        )
    return stored


def _fresh(model: Any, name: str, template: nn.Module, width: int) -> nn.Module:
    """An untrained head with this many classes, initialised as the architecture does it."""
    head = deepcopy(template)
    if name not in INNER:
        last = [n for n, module in head.named_modules() if isinstance(module, nn.Linear)][-1]
        old: Any = head.get_submodule(last)
        made = nn.Linear(old.in_features, width, bias=old.bias is not None).to(old.weight)
        if not last:
            head = made
        else:
            head.set_submodule(last, made)
    return head.apply(model._init_weights)
