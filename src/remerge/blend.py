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

from remerge.deltas import LowRank, Scratch, State, layer_of, places
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
        base: theta_0 by name.
        tau: the task vectors by name. Other parameters keep their values and get no gradient.
    """

    def __init__(self, model: nn.Module, base: State, tau: Mapping[str, Tau]) -> None:
        self.base, self.tau = base, tau
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in tau)
        self.parameters = {name: p for name, p in model.named_parameters() if name in tau}
        self.in_parts = _in_parts(model, tau)
        self.layers = sorted({layer_of(name) for name in tau}, key=_natural)
        first = next(iter(tau.values()))
        self.experts = len(first.theta if isinstance(first, Weights) else first)
        self.column = {name: self.layers.index(layer_of(name)) for name in tau}

    @torch.no_grad()
    def write(self, lam: Tensor) -> None:
        """Write the merged weights for ``lam``, ``[T, layers]`` or ``[T, 1]``, into the module."""
        lam = lam.expand(-1, len(self.layers))
        for name, parameter in self.parameters.items():
            _write(parameter, self.base[name], self.tau[name], lam[:, self.column[name]])

    def gradient(self, lam: Tensor, loss: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """The loss of a merge, and dL/dlam, float32 ``[T, layers]``.

        Args:
            lam: the merge's coefficients, ``[T, layers]`` or ``[T, 1]``.
            loss: computes the loss with the module, whose weights are the merge while it runs, but not after.

        Raises:
            UserError: code of the architecture reads a weight that is merged where its module is called.
        """
        lam = lam.expand(-1, len(self.layers))
        found = torch.zeros(len(self.layers), self.experts, device=lam.device)
        with ExitStack() as step:
            for name, parameter in self.parameters.items():
                at = lam[:, self.column[name]]
                self._place(step, name, parameter, at, found[self.column[name]])
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), found.T

    @torch.no_grad()
    def _place(self, step: ExitStack, name: str, parameter: Tensor, lam: Tensor, found: Tensor) -> None:
        """Let a step use one merged tensor, and add its part of dL/dlam, ``[T]``, to ``found``.

        Each weight's gradient is freed as soon as it has been used.
        """
        theta_0, tau, readers = self.base[name], self.tau[name], self.in_parts.get(name)

        def collect(parameter: Tensor) -> None:
            if readers is not None:
                # It has a gradient only if it was not read by the forward passes that are replaced.
                raise UserError(
                    f"{name}: this architecture's code reads the weight itself, so no coefficients can be "
                    "learned: choose a method that does not learn"
                )
            assert parameter.grad is not None
            _add_inner(found, theta_0, tau, parameter.grad, slice(None))
            parameter.grad = None

        step.callback(setattr, parameter, "grad", None)  # of a step that failed
        step.callback(parameter.register_post_accumulate_grad_hook(collect).remove)  # type: ignore[no-untyped-call]
        if readers is None:
            _write(parameter, theta_0, tau, lam)
        for module in readers or []:
            step.enter_context(_replaced(module, theta_0, tau, lam, found))


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
        rows = words.flatten()
        ctx.save_for_backward(rows, lam)
        ctx.theta_0, ctx.tau = theta_0, tau
        return _merged(theta_0, tau, lam, rows).to(dtype).view(*words.shape, -1)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[None, Tensor, None, None, None]:
        """dL/dlam, float32 ``[T]``."""
        rows, lam = ctx.saved_tensors
        of_lam = torch.zeros_like(lam)
        _add_inner(of_lam, ctx.theta_0, ctx.tau, given[0].flatten(0, -2), rows)
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
        ctx.theta_0, ctx.tau = theta_0, tau
        columns = states.reshape(-1, states.shape[-1]).T
        # With words as rows, a product with few states takes no longer than reading the head.
        made = columns.new_empty(len(theta_0), columns.shape[1])
        for rows in _some_rows(theta_0):
            torch.mm(_merged(theta_0, tau, lam, rows).to(states.dtype), columns, out=made[rows])
        return made.T.reshape(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """dL/dstates, and dL/dlam, float32 ``[T]``."""
        states, lam = ctx.saved_tensors
        rows_of_states, gradient = states.reshape(-1, states.shape[-1]), given[0].flatten(0, -2)
        of_states, of_lam = torch.zeros_like(rows_of_states, dtype=torch.float32), torch.zeros_like(lam)
        for rows in _some_rows(ctx.theta_0):
            some = gradient[:, rows]
            theta = _merged(ctx.theta_0, ctx.tau, lam, rows).to(states.dtype)
            of_states += some @ theta
            _add_inner(of_lam, ctx.theta_0, ctx.tau, some.T @ rows_of_states, rows)
        return of_states.to(states.dtype).view_as(states), of_lam, None, None


@contextmanager
def _replaced(module: Any, theta_0: Tensor, tau: Tau, lam: Tensor, found: Tensor) -> Iterator[None]:
    """Let a module read its merged matrix in parts for one step, and add dL/dlam, ``[T]``, to ``found``."""
    lam = lam.clone().requires_grad_()
    if isinstance(module, nn.Linear) and isinstance(tau, list) and theta_0.dtype != module.weight.dtype:
        # Not converted in the product: autograd would keep a copy of every layer's.
        theta_0 = module.weight.detach().copy_(theta_0)

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


def _write(parameter: Tensor, theta_0: Tensor, tau: Tau, lam: Tensor) -> None:
    """Write theta_0 + sum_t lam_t tau_t, summed in float32, into a parameter."""
    if isinstance(tau, list):
        parameter.copy_(_low_rank(theta_0, tau, lam, slice(None)))
        return
    merged, summed = parameter.view(-1), Scratch()
    for where, base, vectors in _pieces(theta_0, tau, slice(None)):
        if merged.dtype == torch.float32:
            torch.addmv(base, vectors.T, lam, out=merged[where])
        else:
            merged[where] = torch.addmv(base, vectors.T, lam, out=summed(base))


def _merged(theta_0: Tensor, tau: Tau, lam: Tensor, rows: Tensor | slice) -> Tensor:
    """theta_0 + sum_t lam_t tau_t in some rows, float32."""
    if isinstance(tau, list):
        return _low_rank(theta_0, tau, lam, rows)
    merged = torch.empty_like(theta_0[rows], dtype=torch.float32, memory_format=torch.contiguous_format)
    for where, base, vectors in _pieces(theta_0, tau, rows):
        torch.addmv(base, vectors.T, lam, out=merged.view(-1)[where])
    return merged


def _low_rank(theta_0: Tensor, factors: list[LowRank], lam: Tensor, rows: Tensor | slice) -> Tensor:
    """theta_0 + sum_t lam_t s_t B_t A_t in some rows, float32: one product of the concatenated factors."""
    B = torch.cat([f.B[rows].float() * f.scaling for f in factors], dim=1)
    A = torch.cat([lam_t * f.A.float() for lam_t, f in zip(lam, factors, strict=True)])
    return torch.addmm(theta_0[rows].float(), B, A)


def _add_inner(found: Tensor, theta_0: Tensor, tau: Tau, gradient: Tensor, rows: Tensor | slice) -> None:
    """Add < tau_t, gradient > of every expert to ``found``, ``[T]``; the gradient is that of some rows."""
    if isinstance(tau, list):
        gradient = gradient.float()
        products = [((f.B[rows].float().T @ gradient) * f.A.float()).sum() * f.scaling for f in tau]
        found += torch.stack(products)
        return
    flat = gradient.reshape(-1)
    for where, _, vectors in _pieces(theta_0, tau, rows):
        found.addmv_(vectors, flat[where].float())


def _pieces(
    theta_0: Tensor, tau: Tensor | Weights, rows: Tensor | slice
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Pieces of some rows: flat positions, theta_0 at these, ``[n]``, and task vectors, ``[T, n]``, float32.

    The vectors may be in a buffer that is reused.
    """
    base, wide = theta_0[rows].reshape(-1), Scratch()
    stack = (tau.theta if isinstance(tau, Weights) else tau)[:, rows].flatten(1)
    for where in places(base):
        own, vectors = base[where].float(), stack[:, where]
        if vectors.dtype != torch.float32:
            vectors = wide(vectors).copy_(vectors)
        yield where, own, vectors.sub_(own) if isinstance(tau, Weights) else vectors


def _some_rows(matrix: Tensor) -> Iterator[slice]:
    """The rows of a matrix, some at a time, in order."""
    width = matrix.shape[1]
    for where in places(matrix, whole=width):
        yield slice(where.start // width, where.stop // width)


def _natural(layer: str) -> list[tuple[int, str]]:
    """Sort key that puts block 10 after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in layer.split(".")]
