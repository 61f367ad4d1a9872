"""The merged model as a function of its coefficients, and its gradient, without a graph through the merge.

The merge is theta = theta_0 + sum_t lam_t tau_t, with one lam for each expert and layer. It is written into
the module in place; an ordinary backward pass gives dL/dtheta, and

    dL/dlam_t^l = < dL/dtheta^l , tau_t^l >

so nothing as large as the model is allocated. Small tensors of a layer are written together, and tensors
that `remerge.readers` can read in parts not at all. What operations a step has follows from the shapes of
its inputs, so it never waits for a GPU.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from remerge.deltas import PIECE, State, layer_of
from remerge.errors import UserError
from remerge.passes import every_row_learns
from remerge.readers import readers_of, replaced
from remerge.tau import Dense, Factors, Tau, Weights, joined, merged, some_of


class Blend:
    """A module whose parameters are theta_0 + sum_t lam_t^l tau_t^l, and the gradient of lam.

    Args:
        model: the module; its parameters are overwritten.
        base: theta_0 by name, none of it the module's own; of tensors with low-rank changes, on any device.
        tau: the task vectors by name. Other parameters keep their values and get no gradient.
    """

    def __init__(self, model: nn.Module, base: State, tau: Mapping[str, Tau]) -> None:
        self.model = model
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in tau)
        self.parameters = {name: p for name, p in model.named_parameters() if name in tau}
        assert all(p.data_ptr() != base[name].data_ptr() for name, p in self.parameters.items() if p.numel())
        self.layers = sorted({layer_of(name) for name in tau}, key=_natural)
        self.column = {name: self.layers.index(layer_of(name)) for name in tau}
        first = next(iter(tau.values()))
        self.T = len(first.theta if isinstance(first, Weights) else first)
        readers = readers_of(model, tau)
        self.in_parts = {
            name: _InParts(name, self.parameters[name], base[name], tau[name], self.column[name], modules)
            for name, modules in readers.items()
        }
        whole = {name: p for name, p in self.parameters.items() if name not in readers}
        self.tensors: list[_Written | _InParts] = [
            _Written([whole[name] for name in names], joined(base, tau, names), self.column[names[0]])
            for names in _together(whole, tau)
        ]
        self.tensors += self.in_parts.values()
        self.is_merge = True

    @torch.no_grad()
    def write(self, lam: Tensor) -> None:
        """Write the merged weights for ``lam``, ``[T, layers]`` or ``[T, 1]``, into the module."""
        self.is_merge = True
        of_layer = lam.expand(-1, len(self.layers)).unbind(dim=1)
        for some in self.tensors:
            some.write(of_layer[some.column])

    @torch.no_grad()
    def put_back(self) -> None:
        """Put theta_0 into the module where steps read it there."""
        if self.is_merge:
            for some in self.in_parts.values():
                some.put_back()
            self.is_merge = False

    def gradient(self, lam: Tensor, loss: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """The loss of a merge, and dL/dlam, float32 ``[T, layers]``.

        Each weight's gradient is freed as soon as it has been used.

        Args:
            lam: the merge's coefficients, ``[T, layers]`` or ``[T, 1]``.
            loss: computes the loss with the module, whose weights are the merge while it runs, but not after.

        Raises:
            UserError: code of the architecture reads a weight that is merged where its module is called.
        """
        self.put_back()
        found = torch.zeros(len(self.layers), self.T, device=lam.device)
        of_layer, found_of = lam.expand(-1, len(self.layers)).unbind(dim=1), found.unbind()
        with ExitStack() as step:
            step.enter_context(every_row_learns(self.model))
            for some in self.tensors:
                step.enter_context(some.used(of_layer[some.column], found_of[some.column]))
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), found.T


@dataclass(frozen=True)
class _Written:
    """Tensors of one layer that a step writes: one, or several small ones by a single operation.

    Attributes:
        parameters: the module's own.
        whole: their theta_0 and task vectors, side by side if they are several.
        column: the layer.
    """

    parameters: list[Tensor]
    whole: Dense | Factors
    column: int

    def write(self, lam: Tensor) -> None:
        """Write the merge into the module."""
        if len(self.parameters) == 1:
            self.whole.merge(lam, self.parameters[0])
            return
        sizes = [parameter.numel() for parameter in self.parameters]
        parts = torch.split(merged(self.whole, lam), sizes)
        for parameter, values in zip(self.parameters, parts, strict=True):
            parameter.copy_(values.view_as(parameter))

    @contextmanager
    def used(self, lam: Tensor, found: Tensor) -> Iterator[None]:
        """Let a step use the merge, and add its part of dL/dlam, ``[T]``, to ``found``."""
        with torch.no_grad():
            self.write(lam)
        left = len(self.parameters)

        def collect(_: Tensor) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._add_inner(found)

        hooks = [_when_accumulated(parameter, collect) for parameter in self.parameters]
        try:
            yield
            if left:  # the loss does not depend on all of them
                self._add_inner(found)
        finally:
            for hook in hooks:
                hook.remove()
            self._forget()

    @torch.no_grad()
    def _add_inner(self, found: Tensor) -> None:
        """Add < tau_t, dL/dtheta > of every expert to ``found``, and free the gradients."""
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters]
        self.whole.add_inner(flat[0] if len(flat) == 1 else torch.cat(flat), found)
        self._forget()

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


@dataclass(frozen=True)
class _InParts:
    """A tensor that a step does not write: the modules that read it merge what they use of it.

    Attributes:
        name: its name.
        parameter: the module's own; where changes are low-rank, it is theta_0 while a step runs.
        theta_0: the base's.
        tau: its task vectors.
        column: the layer.
        readers: the modules.
    """

    name: str
    parameter: Tensor
    theta_0: Tensor
    tau: Tau
    column: int
    readers: list[nn.Module]

    def write(self, lam: Tensor) -> None:
        """Write the merge into the module."""
        some_of(self.theta_0, self.tau, slice(None)).merge(lam, self.parameter)

    def put_back(self) -> None:
        """Put theta_0 into the module if a step reads it there."""
        if isinstance(self.tau, list):
            self.parameter.copy_(self.theta_0)

    @contextmanager
    def used(self, lam: Tensor, found: Tensor) -> Iterator[None]:
        """Let a step use the merge, and add its part of dL/dlam, ``[T]``, to ``found``."""

        def refuse(_: Tensor) -> None:
            # It has a gradient only if it was not read by the forward passes that are replaced.
            raise UserError(
                f"{self.name}: this architecture's code reads the weight itself, so no coefficients can be "
                "learned: choose a method that does not learn"
            )

        theta_0 = self.parameter.detach() if isinstance(self.tau, list) else self.theta_0
        hook = _when_accumulated(self.parameter, refuse)
        with ExitStack() as reading:
            for module in self.readers:
                reading.enter_context(replaced(module, theta_0, self.tau, lam, found))
            try:
                yield
            finally:
                hook.remove()
                self.parameter.grad = None


def _when_accumulated(parameter: Tensor, then: Callable[[Tensor], None]) -> Any:
    """A hook that calls ``then`` when a backward pass has made the parameter's gradient."""
    return parameter.register_post_accumulate_grad_hook(then)  # type: ignore[no-untyped-call]


def _together(parameters: Mapping[str, Tensor], tau: Mapping[str, Tau]) -> list[list[str]]:
    """The names of tensors that are written by one operation.

    On small ones, an operation takes no longer than to call it. So those of one layer are taken together, as
    many as make a piece that stays in a CPU's cache.
    """
    made: list[list[str]] = []
    last: dict[object, tuple[list[str], int]] = {}
    for name, parameter in parameters.items():
        vectors, entries = tau[name], parameter.numel()
        if isinstance(vectors, list):
            made.append([name])
            continue
        dtype = (vectors.theta if isinstance(vectors, Weights) else vectors).dtype
        kind = (layer_of(name), type(vectors), dtype, parameter.dtype)
        names, others = last.get(kind, ([], 0))
        if not names or others + entries > PIECE["cpu"]:
            names, others = [], 0
            made.append(names)
        names.append(name)
        last[kind] = names, others + entries
    return made


def _natural(layer: str) -> list[tuple[int, str]]:
    """Sort key that puts block 10 after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in layer.split(".")]
