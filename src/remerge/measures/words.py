"""The output heads of models that answer in words, float32, from tensors that are in memory anyway."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

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
        made = columns.new_zeros(len(theta), len(states))
        for matrix, columns in terms:
            _add_product(made, matrix, columns)
        if self.bias is not None:
            made += self.bias[:, None]
        return made.T


def _add_product(made: Tensor, matrix: Tensor, columns: Tensor) -> None:
    """Add the product of a matrix in any float dtype, of which only some rows are float32 at a time."""
    # With words as rows, a product with few states takes no longer than reading the head.
    for rows in some_rows(matrix, times=4):
        made[rows].addmm_(matrix[rows].float(), columns)


class _Exactly(torch.autograd.Function):
    """A head's product in float32, and the gradients of states and head."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor) -> Tensor:
        """The products of states, ``[N, h]``: float32 ``[V, N]``."""
        ctx.save_for_backward(states, weight)
        made = states.new_zeros(len(weight), len(states), dtype=torch.float32)
        _add_product(made, weight, states.float().T)
        return made

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor | None]:
        """dL/dstates, and dL/dweight where it is asked for."""
        states, weight = ctx.saved_tensors
        of_states = torch.zeros_like(states, dtype=torch.float32)
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for rows in some_rows(weight, times=4):
            of_states.addmm_(given[0][rows].T, weight[rows].float())
            if of_weight is not None:
                of_weight[rows] = (given[0][rows] @ states.float()).to(weight.dtype)
        return of_states.to(states.dtype), of_weight


def said_exactly(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What an output head in half precision makes of states ``[…, h]``: float32 ``[…, V]``.

    Rounded to bfloat16, logits around 20 are multiples of 1/8: many a best word would be one of several.
    """
    made: Tensor = _Exactly.apply(states.flatten(0, -2), weight)  # type: ignore[no-untyped-call]
    made = made.T.view(*states.shape[:-1], -1)
    return made if bias is None else made + bias


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
