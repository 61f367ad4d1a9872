"""Families of models: how each is loaded, asked, and read. They differ here and nowhere else."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Example:
    """One input and the answer to judge it by, as token ids."""

    prompt: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """All its tokens."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Batch:
    """Examples side by side, with the N positions at which an answer token is predicted.

    Attributes:
        inputs: the model's arguments.
        positions: indices into them of the judged positions, ``[N]`` each.
        targets: the answer tokens, ``[N]``.
        example: which example each position belongs to, ``[N]``, ascending.
        size: how many examples there are.
    """

    inputs: dict[str, Tensor]
    positions: tuple[Tensor, ...]
    targets: Tensor
    example: Tensor
    size: int


class Family(Protocol):
    """What the pipeline asks of a family of models."""

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A model from a `save_pretrained` folder, in evaluation mode."""

    def tokenizer(self, folder: Path) -> Any:
        """The tokenizer of such a folder."""

    def examples(self, tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[Example]:
        """Prompts and answers as tokens."""

    def labels(self, tokenizer: Any, prompt: str, answers: Sequence[str]) -> list[int] | None:
        """The first token of every possible answer, or None if these do not tell them apart."""

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """A padded batch."""

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits at the judged positions, float32 ``[N, V]``."""

    def greedy(self, model: nn.Module, tokenizer: Any, examples: Sequence[Example]) -> list[list[int]]:
        """Each prompt's greedy answer, with its end token."""


def family(name: str) -> Family:
    """The family called ``name`` in a configuration (`base.family`)."""
    from remerge.families import causal_lm

    return {"causal_lm": causal_lm.CausalLM}[name]()
