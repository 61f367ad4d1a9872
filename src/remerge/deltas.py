"""Experts as weight deltas over one base: task vectors, tensor by tensor.

A task vector is ``tau_t = theta_t - theta_0``. Methods see it one tensor at a time, the T experts stacked, in
float32, computed when asked for: nothing the size of the model is made besides the merged weights.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from remerge.errors import UserError

State = Mapping[str, Tensor]
"""A model's tensors by name."""

Merged = Iterator[tuple[str, Tensor]]
"""A merged weight delta for every name, in the order of the base, float32."""


class Deltas(Mapping[str, Tensor]):
    """The stacked weight deltas of T experts: ``deltas[name]`` is float32 ``[T, *shape]``.

    Args:
        base: the base's tensors, theta_0.
        experts: each expert's tensors, theta_t, under the expert's name.

    Raises:
        UserError: an expert lacks a tensor, has another shape, or holds NaN or infinity.
    """

    def __init__(self, base: State, experts: Mapping[str, State]) -> None:
        if not experts:
            raise UserError("no experts to merge: give at least one")
        self.base = {name: base[name] for name in _merged_names(base)}
        self.states = dict(experts)
        for expert, state in experts.items():
            _check(self.base, expert, state)

    @property
    def experts(self) -> list[str]:
        """The experts' names, in the order of the stack."""
        return list(self.states)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, name: str) -> Tensor:
        theta_0 = self.base[name]
        stacked = torch.empty((len(self.states), *theta_0.shape), dtype=torch.float32, device=theta_0.device)
        for tau, theta in zip(stacked, self.states.values(), strict=True):
            tau.copy_(theta[name]).sub_(theta_0)
        return stacked

    def subset(self, experts: Sequence[str]) -> "Deltas":
        """The deltas of some of the experts, sharing their tensors."""
        chosen = object.__new__(Deltas)
        chosen.base, chosen.states = self.base, {e: self.states[e] for e in experts}
        return chosen

    def tensorwise(self, merge: Callable[[Tensor], Tensor]) -> Merged:
        """Apply ``merge``, from ``[T, *shape]`` to ``[*shape]``, to every tensor."""
        for name in self:
            yield name, merge(self[name])


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: its transformer block, or ``other``.

    A block is the shortest prefix that ends in a number, ``model.layers.3`` or
    ``encoder.block.3``. Embeddings, final norm and head are a layer of their own.
    """
    block = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
    return block.group() if block else "other"


def merge_state(base: State, merged: Merged) -> dict[str, Tensor]:
    """The merged model: theta_0 plus the merged deltas, each in the base's own dtype.

    Tensors that are not merged (integer buffers, aliases of tied weights) follow the base.
    """
    theta = dict(base)
    for name, delta in merged:
        theta[name] = delta.add_(base[name]).to(base[name].dtype)
    for name, alias in aliases(base).items():
        theta[name] = theta[alias]
    return theta


def aliases(state: State) -> dict[str, str]:
    """The names that a model ties to an earlier name: both share one memory."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in state.items():
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if first.setdefault(place, name) != name:
                tied[name] = first[place]
    return tied


def _merged_names(base: State) -> list[str]:
    tied = aliases(base)
    return [n for n, tensor in base.items() if tensor.is_floating_point() and n not in tied]


def _check(base: State, expert: str, state: State) -> None:
    for name, theta_0 in base.items():
        if name not in state:
            raise UserError(f"expert {expert}: tensor {name} is missing: not trained from this base?")
        theta = state[name]
        if theta.shape != theta_0.shape:
            raise UserError(
                f"expert {expert}: {name} is {list(theta.shape)}, the base's {list(theta_0.shape)}: "
                "another architecture or vocabulary"
            )
        if not bool(torch.isfinite(theta.sum(dtype=torch.float32))) and not bool(torch.isfinite(theta).all()):
            raise UserError(f"expert {expert}: {name} holds NaN or infinity: train or fetch it anew")
