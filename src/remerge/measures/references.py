"""References: an expert's answers to its own validation inputs, computed once per task (DivMerge, B.1).

The expert decodes greedily from each input until its end token. Any other model is then run once over the
input and the decoded tokens, and compared position by position. If an expert answers in words, the states
that its output head reads are kept; the head turns them into distributions, which are some hundred times as
large, only when these are needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from remerge.errors import UserError
from remerge.families import Batch, Example, Family, Speaking, by_length
from remerge.families.heads import ABSENT
from remerge.files import write_with
from remerge.measures.divergence import js, kl
from remerge.measures.words import WordHead


@dataclass(frozen=True)
class Reference:
    """An expert's answers to the inputs of its task, and the data from which its distributions are made.

    Attributes:
        examples: the inputs, each with the expert's greedy answer.
        rows: for each example, one row per answer position: the states that the expert's output head reads,
            ``[positions, h]`` in the expert's own dtype; for heads of classes, the log-probabilities, float32
            ``[1, C]``.
        head: the expert's output head, which turns states into words; None if rows are log-probabilities.
    """

    examples: list[Example]
    rows: list[Tensor]
    head: WordHead | None

    def first(self, count: int) -> "Reference":
        """The reference for the first inputs only."""
        return Reference(self.examples[:count], self.rows[:count], self.head)

    def to(self, device: torch.device) -> "Reference":
        """The reference with its rows and head on a device."""
        head = None if self.head is None else self.head.to(device)
        return Reference(self.examples, [rows.to(device) for rows in self.rows], head)

    @property
    def first_tokens(self) -> "Reference":
        """Inputs and first answer tokens, without distributions, for methods that use inputs only."""
        cut = [Example(e.prompt, e.answer[:1], e.task) for e in self.examples]
        return Reference(cut, [rows[:0] for rows in self.rows], None)


@torch.no_grad()
def make_reference(
    family: Family,
    expert: nn.Module,
    inputs: Sequence[Example],
    batch_size: int,
    head: WordHead | None,
    longest: int | None = None,
) -> Reference:
    """Decode ``inputs`` greedily with ``expert``, and keep the data from which its distributions are made.

    Args:
        family: the expert's family, which runs it.
        expert: a model of the family.
        inputs: the inputs of its task.
        batch_size: the number of inputs in a forward pass.
        head: the expert's output head; None for a family that answers with classes.
        longest: see `Family.greedy`.
    """
    answers = family.greedy(expert, inputs, longest)
    examples = [Example(e.prompt, answer, e.task) for e, answer in zip(inputs, answers, strict=True)]
    device = next(expert.parameters()).device
    rows: dict[int, Tensor] = {}
    for chunk in by_length(examples, batch_size):
        batch = family.collate([examples[i] for i in chunk], device)
        parts = torch.split(kept(family, expert, batch).cpu(), [len(examples[i].answer) for i in chunk])
        for i, part in zip(chunk, parts, strict=True):
            rows[i] = part
    return Reference(examples, [rows[i] for i in range(len(examples))], head)


def kept(family: Family, expert: nn.Module, batch: Batch) -> Tensor:
    """The rows of a reference at the judged positions: an expert's states, or classes' log-probabilities."""
    if family.speaks:
        return cast(Speaking, family).states(expert, batch)
    return family.logits(expert, batch).log_softmax(dim=-1)


def save_reference(path: Path, reference: Reference) -> None:
    """Write answers and rows as one safetensors file."""
    answers = [e.answer for e in reference.examples]
    tensors = {
        "answers": torch.tensor([token for answer in answers for token in answer]),
        "lengths": torch.tensor([len(answer) for answer in answers]),
        "rows": torch.cat(reference.rows),
    }
    write_with(path, lambda temporary: save_file(tensors, temporary))


def load_reference(path: Path, inputs: Sequence[Example], head: WordHead | None) -> Reference:
    """Read a reference, given the inputs it was made on and the head of its expert.

    Raises:
        UserError: the file is missing or damaged, or does not fit the inputs.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            answers, lengths, rows = (opened.get_tensor(name) for name in ("answers", "lengths", "rows"))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: incomplete or damaged ({error}): delete it and run again") from None
    if len(lengths) != len(inputs):
        raise UserError(f"{path}: made on {len(lengths)} inputs, not {len(inputs)}: delete it and run again")
    positions = int(lengths.sum())
    if answers.shape != (positions,) or rows.ndim != 2 or len(rows) != positions:
        raise UserError(f"{path}: answers and rows do not belong together: delete it and run again")
    if answers.is_floating_point() or lengths.is_floating_point() or rows.isnan().any():
        raise UserError(f"{path}: contains something other than answers and rows: delete it and run again")
    parts = torch.split(answers, lengths.tolist())
    examples = [Example(e.prompt, part.tolist(), e.task) for e, part in zip(inputs, parts, strict=True)]
    return Reference(examples, list(torch.split(rows, lengths.tolist())), head)


@torch.no_grad()
def divergences(family: Family, model: nn.Module, reference: Reference, batch_size: int) -> dict[str, Any]:
    """KL and JS of a model from the expert, in nats: the mean over positions, then over inputs."""
    device = next(model.parameters()).device
    reference, total = reference.to(device), {"kl": 0.0, "js": 0.0}
    for chunk in by_length(reference.examples, batch_size):
        batch = family.collate([reference.examples[i] for i in chunk], device)
        q = family.logits(model, batch).log_softmax(dim=-1)
        p = side_by_side(family, model, [(reference, chunk)])
        weight = position_weights(batch)
        for name, divergence in (("kl", kl), ("js", js)):
            total[name] += float((divergence(p, q) * weight).sum())
    n = len(reference.examples)
    return {**{name: value / n for name, value in total.items()}, "n": n}


@torch.no_grad()
def side_by_side(
    family: Family, model: nn.Module, asked: Sequence[tuple[Reference, Sequence[int]]]
) -> Tensor:
    """Experts' log-probabilities at the answer positions of some inputs, float32 ``[N, V]``.

    Words or classes that a task lacks have probability 0.

    Args:
        family: the experts' family.
        model: any model of the family; its weights do not matter.
        asked: references on the model's device, each with the indices of some of its inputs.
    """
    made = []
    for reference, chosen in asked:
        rows = torch.cat([reference.rows[i] for i in chosen])
        made.append(rows if reference.head is None else reference.head(rows))
    width = max(rows.shape[1] for rows in made)
    whole = torch.cat([pad(rows, (0, width - rows.shape[1]), value=ABSENT) for rows in made])
    if asked[0][0].head is None:
        return whole
    return cast(Speaking, family).said(model, whole).log_softmax(dim=-1)


def position_weights(batch: Batch, answer: str = "mean") -> Tensor:
    """Each position's weight, ``[N]``, for the mean over the positions of an example, or their sum."""
    ones = torch.ones(len(batch.example), device=batch.example.device)
    if answer == "sum":
        return ones
    return 1.0 / ones.new_zeros(batch.size).index_add_(0, batch.example, ones)[batch.example]
