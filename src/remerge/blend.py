"""The merged model as a function of its coefficients, and its gradient, without a graph through the merge.

The merge is theta = theta_0 + sum_t lam_t tau_t, with one lam for each expert and layer. It is written into
the module in place; an ordinary backward pass gives dL/dtheta, and

    dL/dlam_t^l = < dL/dtheta^l , tau_t^l >

so nothing as large as the model is allocated. A step need not write all of theta: of an input embedding, it
merges the rows that are looked up (`_Lookup`); an output head is merged a few rows at a time (`_Head`); and
if tau is low-rank, s B A, a layer adds its products with the factors to the product with theta_0. What
operations a step has follows from the shapes of its inputs, so it never waits for a GPU.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from remerge.deltas import PIECE, LowRank, Scratch, State, layer_of, places
from remerge.errors import UserError
from remerge.passes import instead


@dataclass(frozen=True)
class Weights:
    """The experts' own values of one tensor; its task vectors are these minus theta_0.

    Attributes:
        theta: stacked, ``[T, *shape]``, in half precision: the differences would take twice the memory.
    """

    theta: Tensor


Tau = Tensor | Weights | list[LowRank]
"""The task vectors of one tensor: stacked ``[T, *shape]`` in any float dtype, as `Weights`, or as factors."""


class Blend:
    """A module whose parameters are theta_0 + sum_t lam_t^l tau_t^l, and the gradient of lam.

    Args:
        model: the module; its parameters are overwritten.
        base: theta_0 by name, none of it the module's own; of tensors with low-rank changes, on any device.
        tau: the task vectors by name. Other parameters keep their values and get no gradient.
    """

    def __init__(self, model: nn.Module, base: State, tau: Mapping[str, Tau]) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in tau)
        self.parameters = {name: p for name, p in model.named_parameters() if name in tau}
        assert all(p.data_ptr() != base[name].data_ptr() for name, p in self.parameters.items() if p.numel())
        self.layers = sorted({layer_of(name) for name in tau}, key=_natural)
        self.column = {name: self.layers.index(layer_of(name)) for name in tau}
        first = next(iter(tau.values()))
        self.experts = len(first.theta if isinstance(first, Weights) else first)
        readers = _in_parts(model, tau)
        self.in_parts = {
            name: _InParts(name, self.parameters[name], base[name], tau[name], self.column[name], modules)
            for name, modules in readers.items()
        }
        whole = {name: p for name, p in self.parameters.items() if name not in readers}
        self.tensors: list[_Written | _InParts] = [
            _Written([whole[name] for name in names], _joined(base, tau, names), self.column[names[0]])
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
        found = torch.zeros(len(self.layers), self.experts, device=lam.device)
        of_layer, found_of = lam.expand(-1, len(self.layers)).unbind(dim=1), found.unbind()
        with ExitStack() as step:
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
    whole: "_Dense | _Factors"
    column: int

    def write(self, lam: Tensor) -> None:
        """Write the merge into the module."""
        if len(self.parameters) == 1:
            self.whole.merge(lam, self.parameters[0])
            return
        merged = torch.split(_merged(self.whole, lam), [parameter.numel() for parameter in self.parameters])
        for parameter, values in zip(self.parameters, merged, strict=True):
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
        _some(self.theta_0, self.tau, slice(None)).merge(lam, self.parameter)

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
        with ExitStack() as replaced:
            for module in self.readers:
                replaced.enter_context(_replaced(module, theta_0, self.tau, lam, found))
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


def _joined(base: State, tau: Mapping[str, Tau], names: list[str]) -> "_Dense | _Factors":
    """The theta_0 and task vectors of some tensors, flat if they are several."""
    if len(names) == 1:
        return _some(base[names[0]], tau[names[0]], slice(None))
    theta_0 = torch.cat([base[name].reshape(-1) for name in names])
    vectors = [tau[name] for name in names]
    stacks = [v.theta if isinstance(v, Weights) else v for v in vectors if not isinstance(v, list)]
    stacked = torch.cat([stack.flatten(1) for stack in stacks], dim=1)
    return _Dense(theta_0, Weights(stacked) if isinstance(vectors[0], Weights) else stacked, slice(None))


class _Dense:
    """Some rows of theta_0 and of dense task vectors, in pieces that stay in a CPU's cache.

    Whole tensors are cut once for all steps. Pieces are converted to float32 as they are read.
    """

    def __init__(self, theta_0: Tensor, tau: Tensor | Weights, rows: Tensor | slice) -> None:
        some = theta_0[rows]
        self.shape, base = some.shape, some.reshape(-1)
        self.absolute = isinstance(tau, Weights)
        stack = (tau.theta if isinstance(tau, Weights) else tau)[:, rows].flatten(1)
        self.pieces = [(where, base[where], stack[:, where]) for where in places(base)]

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Flat positions, theta_0 at these, ``[n]``, and task vectors, ``[T, n]``, in a reused buffer."""
        wide = Scratch()
        for where, base, vectors in self.pieces:
            own = base.float()
            if vectors.dtype != torch.float32:
                vectors = wide(vectors).copy_(vectors)
            yield where, own, vectors.sub_(own) if self.absolute else vectors

    def merge(self, lam: Tensor, made: Tensor) -> Tensor:
        """Write theta_0 + sum_t lam_t tau_t, summed in float32, into ``made``."""
        merged, summed = made.view(-1), Scratch()
        for where, base, vectors in self:
            if merged.dtype == torch.float32:
                torch.addmv(base, vectors.T, lam, out=merged[where])
            else:
                merged[where] = torch.addmv(base, vectors.T, lam, out=summed(base))
        return made

    def add_inner(self, gradient: Tensor, found: Tensor) -> None:
        """Add < tau_t, gradient > of every expert to ``found``, ``[T]``."""
        flat = gradient.reshape(-1)
        for where, _, vectors in self:
            found.addmv_(vectors, flat[where].float())


class _Factors:
    """Some rows of theta_0 and of low-rank task vectors."""

    def __init__(self, theta_0: Tensor, tau: list[LowRank], rows: Tensor | slice) -> None:
        self.theta_0 = theta_0[rows]
        self.shape = self.theta_0.shape
        self.tau = [LowRank(factors.B[rows], factors.A, factors.scaling) for factors in tau]

    def merge(self, lam: Tensor, made: Tensor) -> Tensor:
        """Write theta_0 + sum_t lam_t s_t B_t A_t, float32, into ``made``: one product of all factors."""
        B = torch.cat([f.B.float() * f.scaling for f in self.tau], dim=1)
        A = torch.cat([lam_t * f.A.float() for lam_t, f in zip(lam, self.tau, strict=True)])
        return made.copy_(torch.addmm(self.theta_0.to(B.device).float(), B, A))

    def add_inner(self, gradient: Tensor, found: Tensor) -> None:
        """Add < tau_t, gradient > of every expert to ``found``, ``[T]``."""
        gradient = gradient.reshape(self.shape).float()
        found += torch.stack([((f.B.float().T @ gradient) * f.A.float()).sum() * f.scaling for f in self.tau])


def _some(theta_0: Tensor, tau: Tau, rows: Tensor | slice) -> _Dense | _Factors:
    """Some rows of a tensor, to be merged."""
    return _Factors(theta_0, tau, rows) if isinstance(tau, list) else _Dense(theta_0, tau, rows)


def _merged(some: _Dense | _Factors, lam: Tensor) -> Tensor:
    """The merge of some rows, float32."""
    return some.merge(lam, lam.new_empty(some.shape))


def _in_parts(model: nn.Module, tau: Mapping[str, Tau]) -> dict[str, list[nn.Module]]:
    """The tensors that a step does not write whole, by name, with the modules that read them.

    These are embeddings that look up words, output heads, and layers that multiply by a low-rank change.
    """
    whole: Any = model if isinstance(model, PreTrainedModel) else None
    words = [whole.get_input_embeddings(), whole.get_output_embeddings()] if whole else []
    tables = {id(parameter) for module in words if module for parameter in module.parameters(recurse=False)}
    readers: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            readers.setdefault(id(parameter), []).append(module)

    def suits(module: nn.Module, parameter: Tensor, vectors: Tau) -> bool:
        if type(module) is nn.Linear:
            return parameter is module.weight and (id(parameter) in tables or isinstance(vectors, list))
        return type(module) is nn.Embedding and module.max_norm is None and id(parameter) in tables

    return {
        name: readers[id(parameter)]
        for name, parameter in model.named_parameters()
        if name in tau and all(suits(module, parameter, tau[name]) for module in readers[id(parameter)])
    }


class _Lookup(torch.autograd.Function):
    """The rows of a merged embedding that words look up; the others are never made, nor is its gradient."""

    @staticmethod
    def forward(
        ctx: Any, words: Tensor, lam: Tensor, theta_0: Tensor, tau: Tau, dtype: torch.dtype
    ) -> Tensor:
        """The rows of words, ``[*]``: ``[*, h]``."""
        ctx.save_for_backward(lam)
        ctx.rows = _some(theta_0, tau, words.flatten())
        return _merged(ctx.rows, lam).to(dtype).view(*words.shape, -1)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[None, Tensor, None, None, None]:
        """dL/dlam, float32 ``[T]``."""
        (lam,) = ctx.saved_tensors
        of_lam = torch.zeros_like(lam)
        ctx.rows.add_inner(given[0].flatten(0, -2), of_lam)
        return None, of_lam, None, None, None


class _Head(torch.autograd.Function):
    """An output head's product with its merged matrix, of which only some rows exist at a time.

    A head has as many rows as there are words, and a step reads few states: writing the matrix, reading it
    twice and writing its gradient would take longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, lam: Tensor, theta_0: Tensor, tau: Tau) -> Tensor:
        """The products of states, ``[*, h]``: ``[*, V]``."""
        ctx.save_for_backward(states, lam)
        ctx.parts = [(rows, _some(theta_0, tau, rows)) for rows in _some_rows(theta_0)]
        columns = states.reshape(-1, states.shape[-1]).T
        # With words as rows, a product with few states takes no longer than reading the head.
        made = columns.new_empty(len(theta_0), columns.shape[1])
        for rows, some in ctx.parts:
            torch.mm(_merged(some, lam).to(states.dtype), columns, out=made[rows])
        return made.T.reshape(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """dL/dstates, and dL/dlam, float32 ``[T]``."""
        states, lam = ctx.saved_tensors
        rows_of_states, gradient = states.reshape(-1, states.shape[-1]), given[0].flatten(0, -2)
        of_states, of_lam = torch.zeros_like(rows_of_states, dtype=torch.float32), torch.zeros_like(lam)
        for rows, some in ctx.parts:
            given_rows = gradient[:, rows]
            of_states += given_rows @ _merged(some, lam).to(states.dtype)
            some.add_inner(given_rows.T @ rows_of_states, of_lam)
        return of_states.to(states.dtype).view_as(states), of_lam, None, None


@contextmanager
def _replaced(module: Any, theta_0: Tensor, tau: Tau, lam: Tensor, found: Tensor) -> Iterator[None]:
    """Let a module read its merged matrix in parts for one step, and add dL/dlam, ``[T]``, to ``found``."""
    lam = lam.clone().requires_grad_()

    def collect(lam: Any) -> None:
        found.add_(lam.grad)

    def read(x: Tensor) -> Tensor:
        made: Tensor
        if isinstance(module, nn.Embedding):
            made = _Lookup.apply(x, lam, theta_0, tau, module.weight.dtype)  # type: ignore[no-untyped-call]
            return made
        if isinstance(tau, list):
            made = _low_rank_product(x, theta_0, tau, lam)
        else:
            made = _Head.apply(x, lam, theta_0, tau)  # type: ignore[no-untyped-call]
        return made if module.bias is None else made + module.bias

    lam.register_post_accumulate_grad_hook(collect)  # type: ignore[no-untyped-call]
    with instead(module, read):
        yield


def _low_rank_product(x: Tensor, theta_0: Tensor, factors: list[LowRank], lam: Tensor) -> Tensor:
    """x theta^T for theta = theta_0 + sum_t lam_t s_t B_t A_t; what is added to theta_0 is float32."""
    A = torch.cat([lam_t * f.scaling * f.A.float() for lam_t, f in zip(lam, factors, strict=True)])
    B = torch.cat([f.B.float() for f in factors], dim=1)
    change = linear(linear(x.float(), A), B)
    return linear(x, theta_0) + change.to(x.dtype)


def _some_rows(matrix: Tensor) -> Iterator[slice]:
    """The rows of a matrix, some at a time, in order."""
    width = matrix.shape[1]
    for where in places(matrix, whole=width):
        yield slice(where.start // width, where.stop // width)


def _natural(layer: str) -> list[tuple[int, str]]:
    """Sort key that puts block 10 after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in layer.split(".")]
