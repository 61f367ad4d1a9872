"""References: what an expert answers on its own validation inputs, once per task (DivMerge, B.1).

The expert decodes greedily from each input until its end token; its distribution at every decoded position is
kept. Any other model is then run once over input and decoded tokens and compared position by position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from remerge.errors import UserError
from remerge.families import Example, Family, by_length
from remerge.families.heads import ABSENT
from remerge.files import write_with
from remerge.measures.divergence import js, kl


@dataclass(frozen=True)
class Reference:
    """An expert's answers and distributions on the inputs of its task.

    Attributes:
        examples: the inputs, each with the expert's greedy answer.
        log_probs: for each of them, log-probabilities at every answer position, float32 ``[positions, V]``;
            of a head, one position and C classes.
    """

    examples: list[Example]
    log_probs: list[Tensor]

    def first(self, count: int) -> "Reference":
        """The reference on the first inputs alone."""
        return Reference(self.examples[:count], self.log_probs[:count])

    @property
    def first_tokens(self) -> "Reference":
        """Inputs and first answer token, without distributions: what a method of inputs alone sees."""
        cut = [Example(e.prompt, e.answer[:1], e.task) for e in self.examples]
        return Reference(cut, [rows[:0] for rows in self.log_probs])


@torch.no_grad()
def make_reference(
    family: Family, expert: nn.Module, inputs: Sequence[Example], batch_size: int
) -> Reference:
    """Decode ``inputs`` greedily with ``expert`` and keep its distributions along the answers."""
    answers = family.greedy(expert, inputs)
    examples = [Example(e.prompt, answer, e.task) for e, answer in zip(inputs, answers, strict=True)]
    device = next(expert.parameters()).device
    rows: dict[int, Tensor] = {}
    for chunk in by_length(examples, batch_size):
        batch = family.collate([examples[i] for i in chunk], device)
        log_probs = family.logits(expert, batch).log_softmax(dim=-1).cpu()
        parts = torch.split(log_probs, [len(examples[i].answer) for i in chunk])
        for i, part in zip(chunk, parts, strict=True):
            rows[i] = part
    return Reference(examples, [rows[i] for i in range(len(examples))])


def save_reference(path: Path, reference: Reference) -> None:
    """Write answers and log-probabilities as one safetensors file."""
    answers = [e.answer for e in reference.examples]
    tensors = {
        "answers": torch.tensor([token for answer in answers for token in answer]),
        "lengths": torch.tensor([len(answer) for answer in answers]),
        "log_probs": torch.cat(reference.log_probs),
    }
    write_with(path, lambda temporary: save_file(tensors, temporary))


def load_reference(path: Path, inputs: Sequence[Example]) -> Reference:
    """Read a reference back onto the inputs it was made on.

    Raises:
        UserError: the file is missing or cut short, or the inputs are others.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            answers, lengths, log_probs = (
                opened.get_tensor(name) for name in ("answers", "lengths", "log_probs")
            )
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole reference ({error}): delete it and run again") from None
    if len(lengths) != len(inputs):
        raise UserError(f"{path}: made on {len(lengths)} inputs, not {len(inputs)}: delete it and run again")
    positions = int(lengths.sum())
    if answers.shape != (positions,) or log_probs.ndim != 2 or len(log_probs) != positions:
        raise UserError(f"{path}: answers and distributions do not fit together: delete it and run again")
    if answers.is_floating_point() or lengths.is_floating_point() or log_probs.isnan().any():
        raise UserError(
            f"{path}: contains something other than answers and distributions: delete it and run again"
        )
    parts = torch.split(answers, lengths.tolist())
    examples = [Example(e.prompt, part.tolist(), e.task) for e, part in zip(inputs, parts, strict=True)]
    return Reference(examples, list(torch.split(log_probs, lengths.tolist())))


@torch.no_grad()
def divergences(family: Family, model: nn.Module, reference: Reference, batch_size: int) -> dict[str, Any]:
    """KL and JS of a model from the expert, in nats: the mean over positions, then over inputs."""
    device = next(model.parameters()).device
    total = {"kl": 0.0, "js": 0.0}
    for chunk in by_length(reference.examples, batch_size):
        batch = family.collate([reference.examples[i] for i in chunk], device)
        q = family.logits(model, batch).log_softmax(dim=-1)
        p = side_by_side([reference.log_probs[i] for i in chunk], q.shape[1], device)
        weight = position_weights(batch.example)
        for name, divergence in (("kl", kl), ("js", js)):
            total[name] += float((divergence(p, q) * weight).sum())
    n = len(reference.examples)
    return {**{name: value / n for name, value in total.items()}, "n": n}


def side_by_side(rows: Sequence[Tensor], width: int, device: torch.device) -> Tensor:
    """Log-probabilities of several examples, ``[N, width]``; classes that a task lacks have probability 0."""
    return torch.cat([pad(row, (0, width - row.shape[1]), value=ABSENT) for row in rows]).to(device)


def position_weights(example: Tensor) -> Tensor:
    """One over the number of positions of each position's example, ``[N]``: they sum to the examples."""
    return 1.0 / example.bincount()[example].float()
