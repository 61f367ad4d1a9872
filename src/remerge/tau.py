"""The task vectors of one tensor: their merge with theta_0, and their inner products with its gradient.

Nothing as large as the vectors is made: dense ones are read in pieces, low-rank ones stay factors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from remerge.deltas import LowRank, Scratch, State, places


@dataclass(frozen=True)
class Weights:
    """The experts' own values of one tensor; its task vectors are these minus theta_0.

    Attributes:
        theta: stacked, ``[T, *shape]``, in half precision: the differences would take twice the memory.
    """

    theta: Tensor


Tau = Tensor | Weights | list[LowRank]
"""The task vectors of one tensor: stacked ``[T, *shape]`` in any float dtype, as `Weights`, or as factors."""


class Dense:
    """Some rows of theta_0 and of dense task vectors, in pieces that stay in a CPU's cache.

    Whole tensors are cut once for all steps. Pieces are converted to float32 as they are read.
    """

    def __init__(self, theta_0: Tensor, tau: Tensor | Weights, rows: Tensor | slice) -> None:
        self.absolute = isinstance(tau, Weights)
        stack = tau.theta if isinstance(tau, Weights) else tau
        if not theta_0.dim():  # a number has no rows
            theta_0, stack = theta_0[None], stack[:, None]
        some, stack = theta_0[rows], stack[:, rows].flatten(1)
        self.shape, base = some.shape, some.reshape(-1)
        self.pieces = [(where, base[where], stack[:, where]) for where in places(base)]

    def __iter__(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Flat positions, theta_0 at these, ``[n]``, and task vectors, ``[T, n]``, in a reused buffer."""
        wide = Scratch()
        for where, base, vectors in self.pieces:
            own = base.float()
            if self.absolute or vectors.dtype != torch.float32:
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


class Factors:
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


def some_of(theta_0: Tensor, tau: Tau, rows: Tensor | slice) -> Dense | Factors:
    """Some rows of a tensor, to be merged."""
    return Factors(theta_0, tau, rows) if isinstance(tau, list) else Dense(theta_0, tau, rows)


def joined(base: State, tau: Mapping[str, Tau], names: list[str]) -> Dense | Factors:
    """The theta_0 and task vectors of some tensors, flat if they are several."""
    if len(names) == 1:
        return some_of(base[names[0]], tau[names[0]], slice(None))
    theta_0 = torch.cat([base[name].reshape(-1) for name in names])
    vectors = [tau[name] for name in names]
    stacks = [v.theta if isinstance(v, Weights) else v for v in vectors if not isinstance(v, list)]
    stacked = torch.cat([stack.reshape(len(stack), -1) for stack in stacks], dim=1)
    return Dense(theta_0, Weights(stacked) if isinstance(vectors[0], Weights) else stacked, slice(None))


def merged(some: Dense | Factors, lam: Tensor) -> Tensor:
    """The merge of some rows, float32."""
    return some.merge(lam, lam.new_empty(some.shape))
