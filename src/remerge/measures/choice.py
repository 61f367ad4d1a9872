"""The likeliest of an example's answers, as lm-evaluation-harness's ``acc`` and ``acc_norm`` find it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from remerge.amounts import OPTION
from remerge.errors import UserError
from remerge.families import Example, Family, by_length


@dataclass(frozen=True)
class Options:
    """The answers from which the examples of a split are chosen, equally many for each.

    Attributes:
        examples: an example's input with each of its answers, without end tokens, one example after another.
        lengths: the number of characters of each answer.
        gold: the place of the gold answer among those of each example.
    """

    examples: list[Example]
    lengths: list[int]
    gold: list[int]

    @property
    def count(self) -> int:
        """The number of answers of each example."""
        return len(self.lengths) // len(self.gold)


def options(
    where: str, family: Family, task: str, asked: Sequence[tuple[Any, Any]], answers: Sequence[list[str]]
) -> Options:
    """The answers of examples as tokens.

    Args:
        where: the place of the examples, for error messages.
        family: the family of the models that are judged.
        task: the examples' task.
        asked: the input and the gold answer of each example.
        answers: all answers of each.

    Raises:
        UserError: the model could not tell two answers of an example apart, or not read one.
    """
    given = [(prompt, text) for (prompt, _), own in zip(asked, answers, strict=True) for text in own]
    made = [Example(e.prompt, e.answer[:-1], e.task) for e in family.examples(task, given)]
    places = iter(made)
    for number, own in enumerate(answers, 1):
        tokens = [tuple(next(places).answer) for _ in own]
        if fault := _fault(tokens, family.processor.model_max_length):
            raise UserError(f"{where}: example {number} has {fault}: change it, or use another metric")
    gold = [own.index(right) for (_, right), own in zip(asked, answers, strict=True)]
    return Options(made, [len(text) for _, text in given], gold)


def _fault(answers: Sequence[tuple[int, ...]], limit: int) -> str | None:
    """What keeps answers from being compared."""
    if not all(answers):
        return "an answer without tokens"
    if len(set(answers)) < len(answers):
        return "two answers with the same tokens"
    # With its end token, a longer one would have been cut to the limit.
    return "an answer that is too long for the model" if max(map(len, answers)) + 1 >= limit else None


def taken(
    family: Family, model: nn.Module, given: Options, batch_size: int, per_character: bool
) -> list[int]:
    """The place of the likeliest answer of each example, or of the first of the likeliest ones.

    Where a likelihood is NaN, none is taken: the number of answers stands for it.

    Args:
        family: the model's family, which runs it.
        model: any model of the family.
        given: the answers.
        batch_size: answers in a forward pass.
        per_character: whether log-likelihoods are divided by the number of characters of the answers.
    """
    sums = likelihoods(family, model, given.examples, batch_size)
    if per_character:
        sums /= torch.tensor(given.lengths)
    of_each = sums.reshape(len(given.gold), -1).numpy()
    # NumPy takes the first of several best; NaN would be the best.
    places = np.where(np.isnan(of_each).any(axis=1), given.count, of_each.argmax(axis=1))
    found: list[int] = places.tolist()
    return found


@torch.no_grad()
def likelihoods(family: Family, model: nn.Module, examples: Sequence[Example], batch_size: int) -> Tensor:
    """The sum of the log-likelihoods of the tokens of each example's answer, float64 ``[n]``."""
    device = next(model.parameters()).device
    sums = torch.zeros(len(examples), dtype=torch.float64)
    for chunk in _passes(examples, batch_size):
        batch = family.collate([examples[i] for i in chunk], device)
        lost = cross_entropy(family.logits(model, batch), batch.targets, reduction="none").cpu().double()
        sums[chunk] = -lost.new_zeros(batch.size).index_add_(0, batch.example.cpu(), lost)
    return sums


def _passes(examples: Sequence[Example], batch_size: int) -> Iterator[list[int]]:
    """Indices of examples with similar lengths, fewer at a time where answers are longer than `OPTION`.

    So the logits of a pass take no more memory than is foretold (`remerge.needs`).
    """
    for chunk in by_length(examples, batch_size):
        longest = max(len(examples[i].answer) for i in chunk)
        some = max(1, min(batch_size, batch_size * OPTION // longest))
        yield from (chunk[k : k + some] for k in range(0, len(chunk), some))
