"""Modules that read a merged tensor in parts, so that a step need not write it.

Of an input embedding, only the rows that are looked up are merged (`_Lookup`); an output head is merged a few
rows at a time (`_Head`); and if tau is low-rank, s B A, a layer adds its products with the factors to the
product with theta_0.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from remerge.deltas import LowRank, some_rows
from remerge.measures.words import said_exactly
from remerge.passes import instead
from remerge.tau import Dense, Factors, Tau, merged, some_of


def readers_of(model: nn.Module, tau: Mapping[str, Tau]) -> dict[str, list[nn.Module]]:
    """The tensors that a step does not write whole, by name, with the modules that read them.

    These are embeddings that look up words, output heads, and layers that multiply by a low-rank change.
    """
    whole: Any = model if isinstance(model, PreTrainedModel) else None
    try:
        words = [whole.get_input_embeddings(), whole.get_output_embeddings()] if whole else []
    except NotImplementedError:  # CANINE looks a character up in several tables
        words = []
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
        """The rows of words, ``[n]``: ``[n, h]``."""
        ctx.save_for_backward(lam)
        ctx.rows = some_of(theta_0, tau, words)
        return merged(ctx.rows, lam).to(dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[None, Tensor, None, None, None]:
        """dL/dlam, float32 ``[T]``."""
        (lam,) = ctx.saved_tensors
        of_lam = torch.zeros_like(lam)
        ctx.rows.add_inner(given[0], of_lam)
        return None, of_lam, None, None, None


class _Head(torch.autograd.Function):
    """An output head's product with its merged matrix, of which only some rows exist at a time.

    A head has as many rows as there are words, and a step reads few states: writing the matrix, reading it
    twice and writing its gradient would take longer than the products.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, lam: Tensor, theta_0: Tensor, tau: Tau) -> Tensor:
        """The products of states, ``[N, h]``: float32 ``[V, N]``."""
        ctx.save_for_backward(states, lam)
        ctx.parts = [(rows, some_of(theta_0, tau, rows)) for rows in some_rows(theta_0)]
        columns = states.float().T
        # With words as rows, a product with few states takes no longer than reading the head.
        made = columns.new_empty(len(theta_0), columns.shape[1])
        for rows, some in ctx.parts:
            torch.mm(_as_written(some, lam, states.dtype), columns, out=made[rows])
        return made

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """dL/dstates, and dL/dlam, float32 ``[T]``."""
        states, lam = ctx.saved_tensors
        wide, of_lam = states.float(), torch.zeros_like(lam)
        of_states = torch.zeros_like(wide)
        for rows, some in ctx.parts:
            given_rows = given[0][rows]
            of_states += given_rows.T @ _as_written(some, lam, states.dtype)
            some.add_inner(given_rows @ wide, of_lam)
        return of_states.to(states.dtype), of_lam, None, None


def _as_written(some: Dense | Factors, lam: Tensor, dtype: torch.dtype) -> Tensor:
    """The merge of some rows, float32, rounded as a module that is judged holds it."""
    return merged(some, lam).to(dtype).float()


@contextmanager
def replaced(module: Any, theta_0: Tensor, tau: Tau, lam: Tensor, found: Tensor) -> Iterator[None]:
    """Let a module read its merged matrix in parts for one step, and add dL/dlam, ``[T]``, to ``found``."""
    lam = lam.clone().requires_grad_()
    # A head in half precision makes float32 (`remerge.families`), the only layer that has a pass of its own.
    product = said_exactly if "forward" in vars(module) else linear

    def collect(lam: Any) -> None:
        found.add_(lam.grad)

    # Some models write into what they read: autograd refuses that of a view made by a function of its own.
    def read(x: Tensor) -> Tensor:
        made: Tensor
        if isinstance(module, nn.Embedding):
            made = _Lookup.apply(x.flatten(), lam, theta_0, tau, module.weight.dtype)  # type: ignore[no-untyped-call]
            return made.view(*x.shape, -1)
        if isinstance(tau, list):
            made = product(x, theta_0)
            made = made + _low_rank_product(x, tau, lam).to(made.dtype)
        else:
            made = _Head.apply(x.reshape(-1, x.shape[-1]), lam, theta_0, tau)  # type: ignore[no-untyped-call]
            made = made.T.reshape(*x.shape[:-1], -1)
        return made if module.bias is None else made + module.bias

    lam.register_post_accumulate_grad_hook(collect)  # type: ignore[no-untyped-call]
    with instead(module, read):
        yield


def _low_rank_product(x: Tensor, factors: list[LowRank], lam: Tensor) -> Tensor:
    """x (sum_t lam_t s_t B_t A_t)^T, float32."""
    A = torch.cat([lam_t * f.scaling * f.A.float() for lam_t, f in zip(lam, factors, strict=True)])
    B = torch.cat([f.B.float() for f in factors], dim=1)
    return linear(linear(x.float(), A), B)
