"""Families of models: how each is loaded and run. All their differences are here."""

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from remerge import sources
from remerge.amounts import ANSWERS_AT_ONCE


@dataclass(frozen=True)
class Example:
    """One input and the answer to judge it by.

    Attributes:
        prompt: token ids, or an image file's bytes.
        answer: token ids with the end token, or only the number of the class.
        task: the task whose head reads it, where tasks have heads.
    """

    prompt: Sequence[int] | bytes
    answer: list[int]
    task: str = ""

    @property
    def length(self) -> int:
        """The number of its tokens; an image counts as one, whatever its file's size."""
        return (1 if isinstance(self.prompt, bytes) else len(self.prompt)) + len(self.answer)


@dataclass(frozen=True)
class Batch:
    """A batch of examples, with the N positions at which an answer token or a class is predicted.

    Attributes:
        inputs: the model's arguments.
        positions: indices of the judged positions in them, ``[N]`` each.
        targets: the answer tokens or classes, ``[N]``.
        example: which example each position belongs to, ``[N]``, ascending.
        tasks: the task of each example.
    """

    inputs: dict[str, Tensor]
    positions: tuple[Tensor, ...]
    targets: Tensor
    example: Tensor
    tasks: list[str]

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.tasks)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        inputs = {name: placed(tensor, device) for name, tensor in self.inputs.items()}
        positions = tuple(placed(tensor, device) for tensor in self.positions)
        return Batch(
            inputs, positions, placed(self.targets, device), placed(self.example, device), self.tasks
        )


@dataclass(frozen=True)
class Head:
    """The source of a task's head, and its classes.

    Attributes:
        folder: the checkpoint that contains it; None for a fresh one.
        answers: the classes in words, in the order of the head's outputs.
        captions: possible captions of an image of a class, with ``{answer}``, if the head is made from text.
    """

    folder: Path | None
    answers: Sequence[str]
    captions: Sequence[str] = ()


class Family(Protocol):
    """The interface of a family of models.

    A family is made from the base's folder, whose tokenizer or image processor all its experts share. Its
    class declares what it ``reads``, text or image, and whether it ``speaks``, that is, answers in words
    rather than with a head's classes. The configuration reads both from the file without running it
    (`remerge.sources`), so they must be literals.
    """

    processor: Any
    reads: str
    speaks: bool

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A model from a `save_pretrained` folder, in evaluation mode, without task heads."""

    def added(self, folder: Path) -> list[str]:
        """The tokens that a checkpoint's own tokenizer has beyond the base's."""

    def equip(self, model: nn.Module, heads: Mapping[str, Head]) -> None:
        """Give the model the heads of these tasks, if the family has any."""

    def heads(self, model: nn.Module) -> list[str]:
        """The names of the model's children that are task heads."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, its heads and its tokenizer or processor, so that `from_pretrained` loads them."""

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """Examples from the result of `remerge.tasks.pairs`: inputs, and answers in words or classes."""

    def lengths(self, prompts: Sequence[Any]) -> list[int]:
        """The length of each prompt, counted as in `Example.length`, before long ones are truncated."""

    def labels(self, prompt: str, answers: Sequence[str]) -> list[int] | None:
        """The first token of each possible answer, or None if two answers share it."""

    def collate(self, examples: Sequence[Example], device: torch.device, multiple: int = 1) -> Batch:
        """A padded batch; where inputs have a length, it is a multiple of ``multiple``."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits at the judged positions, float32 ``[N, V]``."""

    def greedy(
        self, model: nn.Module, examples: Sequence[Example], longest: int | None = None
    ) -> list[list[int]]:
        """Each prompt's greedy answer, with its end token.

        It has at most ``longest`` tokens, by default the family's number, or as many as the longest gold
        answer; a class is one.
        """


class Speaking(Family, Protocol):
    """A family that answers in words: its models end in one output head, which turns states into words."""

    def states(self, model: nn.Module, batch: Batch) -> Tensor:
        """The inputs of the output head at the judged positions, ``[N, h]``, in the model's own dtype."""

    def said(self, model: nn.Module, made: Tensor) -> Tensor:
        """The model's logits, given the output of its own head or another model's, float32 ``[N, V]``.

        In most models, the logits are the head's output; some models cap or scale it.
        """


class FixedHeads(Family, Protocol):
    """A family with fixed heads: only the layers before them are trained.

    Its models can therefore be expanded at the base. The classes of several tasks can be compared, since
    their logits are cosines in one space; the logits of separately trained heads cannot, since a softmax
    leaves a constant undetermined.
    """

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """The features that the heads read, float32 ``[B, d]``."""

    def read(self, model: nn.Module, batch: Batch, outputs: Tensor) -> Tensor:
        """The logits of each input from its own task's head, float32 ``[N, V]``."""

    def beside(self, model: nn.Module, tasks: Iterable[str], outputs: Tensor) -> Tensor:
        """The logits from the heads of all these tasks, concatenated, float32 ``[B, sum_t C_t]``."""


def family(name: str, base: Path) -> Family:
    """The family called ``name`` in a configuration (`base.family`), for the base in a folder."""
    # Imported when it is asked for: its part of transformers takes seconds.
    module = importlib.import_module(f"{__name__}.{name}")
    made: Family = getattr(module, sources.families()[name].class_name)(base)
    return made


def placed(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; a copy to a GPU does not wait until the GPU has done everything asked before."""
    # What is on the GPU already cannot be pinned.
    pinned = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return pinned.to(device, non_blocking=True)


def pad(
    rows: Sequence[Sequence[int]], fill: int, multiple: int = 1, limit: int = sys.maxsize
) -> tuple[Tensor, Tensor]:
    """The rows, padded on the right, and their mask, int64 ``[B, L]`` each.

    L is the length of the longest row, or the next multiple of ``multiple``, unless that is above ``limit``.
    """
    longest = max(map(len, rows))
    longest = max(longest, min(limit, longest + -longest % multiple))
    ids = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def by_length(examples: Sequence[Example], size: int) -> Iterable[list[int]]:
    """Indices of examples with similar lengths, ``size`` at a time."""
    order = sorted(range(len(examples)), key=lambda i: examples[i].length)
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.no_grad()
def most_likely(family: Family, model: nn.Module, examples: Sequence[Example]) -> list[list[int]]:
    """Each example's most likely class, for families that answer with heads."""
    device = next(model.parameters()).device
    answers: dict[int, list[int]] = {}
    for chunk in by_length(examples, ANSWERS_AT_ONCE):
        logits = family.logits(model, family.collate([examples[i] for i in chunk], device))
        answers |= dict(zip(chunk, logits.argmax(dim=1, keepdim=True).tolist(), strict=True))
    return [answers[i] for i in range(len(examples))]
