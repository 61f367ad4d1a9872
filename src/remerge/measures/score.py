"""The score of a model on a task: of greedy answers, of choices or of free answers, each or together.

Accuracy comes from one teacher-forced pass: greedy decoding gives the gold answer if and only if, with the
gold answer fed in, the most likely token at every answer position is the gold token. So one batched forward
pass gives exactly the result of decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from remerge.config import OF_NUMBERS, OF_TWO
from remerge.families import Example, Family, FixedHeads, by_length
from remerge.measures import joint, together
from remerge.measures.choice import Options, taken
from remerge.measures.free import MEASURES
from remerge.measures.together import Array
from remerge.outcomes import pack, pack_taken, unpack


@dataclass(frozen=True)
class Split:
    """One split of one task.

    Attributes:
        examples: the inputs and the gold answers.
        gold: the gold answers in words, if answers are words.
        labels: the first token of each possible answer, if these differ.
        metric: a task's metric, as in the configuration.
        longest: the most tokens of an answer that is decoded, if the family's number does not hold.
        digest: a digest of exactly these examples.
        options: all answers of the examples, if the likeliest is chosen.
    """

    examples: list[Example]
    gold: list[str]
    labels: list[int] | None
    metric: str
    longest: int | None
    digest: str
    options: Options | None = None

    @property
    def judged(self) -> list[Example]:
        """What models read when they are judged: of a choice, each input with each answer."""
        return self.options.examples if self.options else self.examples


def score(
    family: Family, model: nn.Module, split: Split, batch_size: int, among: joint.Labels | None = None
) -> dict[str, Any]:
    """A model's score on a split: ``metric``, ``value``, ``n``, ``outcomes``, and what else it was found by.

    That is what `accuracy` finds, all ROUGEs, or the options ``taken``; of choices among two answers that are
    judged together, their ``accuracy``.

    Args:
        family: the model's family, which runs it.
        model: any model of the family.
        split: the inputs and gold answers.
        batch_size: examples in a forward pass.
        among: see `accuracy`.
    """
    if split.options:
        return _chosen(family, model, split, split.options, batch_size)
    if split.metric in ("accuracy", *OF_TWO):
        found = accuracy(family, model, split.examples, split.labels, batch_size, among)
        if split.metric in OF_TWO:
            right = unpack(found["outcomes"], "accuracy", found["n"])
            gold = [example.answer[0] for example in split.examples]
            found |= _of_two(split, right, gold)
        return found
    answers = family.greedy(model, split.examples, split.longest)
    said = family.processor.batch_decode(answers, skip_special_tokens=True)
    if split.metric in OF_NUMBERS:
        return _score(split, *together.judged(split.metric, *map(together.numbers, (said, split.gold))))
    if split.metric in MEASURES:
        measure = MEASURES[split.metric]
        worth = [measure(a, b) for a, b in zip(said, split.gold, strict=True)]
        return _score(split, fmean(worth), worth)
    # Imported here: others do not need it.
    from remerge.measures.rouge import rouge

    rouges = rouge(said, split.gold)
    means = {kind: fmean(values) for kind, values in rouges.items()}
    return _score(split, means[split.metric], rouges[split.metric]) | means


def _chosen(
    family: Family, model: nn.Module, split: Split, options: Options, batch_size: int
) -> dict[str, Any]:
    """The score of the likeliest answers, and which these are."""
    places = taken(family, model, options, batch_size, split.metric == "choice_by_length")
    right = [float(a == b) for a, b in zip(places, options.gold, strict=True)]
    all_together = split.metric in OF_TWO
    found = _of_two(split, right, options.gold) if all_together else _score(split, fmean(right), right)
    return found | {"taken": pack_taken(places, options.count)}


def _of_two(split: Split, right: Sequence[float] | Array, gold: Sequence[int]) -> dict[str, Any]:
    """The score of choices among two answers, of which a wrong one is the other, and their accuracy."""
    classes = np.array(gold, float)
    said = np.where(np.asarray(right) == 1, classes, 1 - classes)
    return _score(split, *together.judged(split.metric, said, classes)) | {"accuracy": float(np.mean(right))}


def _score(split: Split, value: float, outcomes: Sequence[float] | Array) -> dict[str, Any]:
    return {
        "metric": split.metric,
        "value": value,
        "n": len(split.examples),
        "outcomes": pack(outcomes, split.metric),
    }


@torch.no_grad()
def accuracy(
    family: Family,
    model: nn.Module,
    examples: Sequence[Example],
    labels: Sequence[int] | None,
    batch_size: int,
    among: joint.Labels | None = None,
) -> dict[str, Any]:
    """The share of examples whose whole greedy answer, end token included, is the gold one.

    Args:
        family: the model's family, which runs it.
        model: any model of the family.
        examples: inputs with gold answers.
        labels: the first token of each possible answer, if these differ.
        batch_size: examples in a forward pass.
        among: the answers of several tasks, including the examples' own, among which each is also judged; for
            families with fixed heads only.

    Returns:
        ``metric``, ``value`` (strict), ``restricted`` (the most likely of the task's own labels is the gold
        one; None without labels), ``n``, the ``outcomes`` whose mean is ``value``, and ``joint`` if
        ``among`` is given.
    """
    device = next(model.parameters()).device
    choices = torch.tensor(labels, device=device) if labels else None
    strict = torch.zeros(len(examples))
    restricted = together = 0
    for chunk in by_length(examples, batch_size):
        batch = family.collate([examples[i] for i in chunk], device)
        if among:
            fixed = cast(FixedHeads, family)
            outputs = fixed.outputs(model, batch)
            logits = fixed.read(model, batch, outputs)
            every = fixed.beside(model, among, outputs)
            together += int(joint.right(among, batch.tasks[0], every, batch.targets).sum())
        else:
            logits = family.logits(model, batch)
        wrong = torch.zeros(batch.size, device=device)
        wrong.index_add_(0, batch.example, (logits.argmax(dim=-1) != batch.targets).float())
        strict[chunk] = (wrong == 0).float().cpu()
        if choices is not None:
            first = first_positions(batch.example)
            best = choices[logits[first][:, choices].argmax(dim=-1)]
            restricted += int((best == batch.targets[first]).sum())
    n = len(examples)
    return {
        "metric": "accuracy",
        "value": int(strict.sum()) / n,
        "restricted": restricted / n if choices is not None else None,
        "n": n,
        "outcomes": pack(strict.tolist(), "accuracy"),
        **({"joint": together / n} if among else {}),
    }


def first_positions(example: Tensor) -> Tensor:
    """The first judged position of each example, from the ascending example index ``[N]``."""
    return torch.cat([example.new_ones(1), example.diff()]).nonzero().squeeze(1)
