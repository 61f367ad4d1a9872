"""The output heads of models that answer in words, float32, from tensors that are in memory anyway."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from remerge.deltas import LowRank, Value, some_rows

Parts = tuple[Tensor, Value | None]
"""A tensor, and the change that is added to it, if any."""


@dataclass(frozen=True)
class WordHead:
    """An output head whose matrix is a sum that is never formed.

    Attributes:
        weight: the parts of its matrix, ``[V, h]`` in any float dtype.
        bias: ``[V]``, if it has one.
    """

    weight: Parts
    bias: Tensor | None = None

    def to(self, device: torch.device) -> "WordHead":
        """The same head on a device."""
        theta, tau = self.weight
        bias = None if self.bias is None else self.bias.to(device)
        return WordHead((theta.to(device), None if tau is None else tau.to(device)), bias)

    @torch.no_grad()
    def __call__(self, states: Tensor) -> Tensor:
        """The head's output for states ``[N, h]``: float32 ``[N, V]``."""
        theta, tau = self.weight
        columns = states.float().T
        terms = [(theta, columns)]
        if isinstance(tau, LowRank):
            # The factors of an expert that does not change the head, while others do, have no rank.
            terms += [(tau.B, tau.A.float() @ columns * tau.scaling)] if len(tau.A) else []
        elif tau is not None:
            terms.append((tau, columns))
        # With words as rows, a product with few states takes no longer than reading the head.
        made = columns.new_zeros(len(theta), len(states))
        for matrix, columns in terms:
            for rows in some_rows(matrix, times=4):
                made[rows].addmm_(matrix[rows].float(), columns)
        if self.bias is not None:
            made += self.bias[:, None]
        return made.T


def said_exactly(weight: Tensor, bias: Tensor | None, states: Tensor) -> Tensor:
    """What an output head in half precision makes of states, float32 wherever words are judged or decoded.

    Rounded to bfloat16, logits around 20 are multiples of 1/8: many a best word would be one of several.
    """
    if torch.is_grad_enabled():
        return linear(states, weight, bias)
    made = WordHead((weight, None), bias)(states.flatten(0, -2))
    return made.view(*states.shape[:-1], -1)


def word_head(names: Sequence[str], parts: Callable[[str], Parts]) -> WordHead:
    """The head of a model.

    Args:
        names: the names of its weight, and of its bias if any: `remerge.checkpoints.reading.Checkpoint.head`.
        parts: gives the parts of a tensor by its name.
    """
    weight, *biases = map(parts, names)
    return WordHead(weight, *(_whole(*bias) for bias in biases))


def _whole(theta: Tensor, tau: Value | None) -> Tensor:
    """A sum, float32."""
    if tau is None:
        return theta.float()
    return theta.float() + (tau.dense() if isinstance(tau, LowRank) else tau)
