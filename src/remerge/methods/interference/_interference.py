"""Steps shared by the methods against interference: sparsify, elect a sign, disjoint mean."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from remerge.deltas import Deltas, Entrywise, Scratch
from remerge.errors import UserError
from remerge.methods import Scope
from remerge.methods.interference._random import drawn
from remerge.methods.interference._select import thresholds

Aggregate = Literal["mean", "sum"]
"""How the entries that agree with the elected sign are combined."""

Fusion = Literal["mean", "sum", "all"]
"""As `Aggregate`, or the sum of all entries, without an election."""

Zeros = Literal["model", "tensor", "plus"]
"""What is elected where experts cancel: the majority in the whole task vector or the tensor, or plus."""

Election = Literal["model", "plus"]
"""Of these, what methods that keep random entries let one choose."""

Rescale = Literal["probability", "l1", "none"]
"""What entries that random masks keep are divided by: their probability, their share in the sum of the
tensor's magnitudes (mergekit), or nothing."""

TINY = torch.finfo(torch.float32).tiny
"""In place of a divisor that is zero, and its dividend with it."""

NEGLIGIBLE = 1e-7
"""Sums of magnitudes below this are left as they are (mergekit)."""


def trim(deltas: Deltas, density: Sequence[float], scope: Scope) -> Deltas:
    """Zero all but the int(density_t·n) largest magnitudes, of the whole task vector or of each tensor.

    Entries that tie with the smallest kept one stay too.
    """

    @cache
    def at_least(name: str | None) -> Tensor:
        return thresholds(deltas, density, list(deltas) if name is None else [name])[:, None]

    scratch = Scratch()

    def change(tau: Tensor, name: str, where: slice) -> Tensor:
        # Masks are floats: in torch a product is several times faster than filling by a boolean mask.
        threshold = at_least(None if scope == "model" else name).to(tau.device)
        return tau.mul_(torch.abs(tau, out=scratch(tau)).ge_(threshold))

    return deltas.map(change)


def drop(deltas: Deltas, density: Sequence[float], seed: int, rescale: Rescale) -> Deltas:
    """Keep each entry of expert t with probability ``density_t`` (DARE)."""
    shares = torch.tensor(density, dtype=torch.float64)[:, None]
    return rescaled(deltas, deltas.map(masked(deltas, lambda tau, name: shares, seed, rescale)), rescale)


def masked(
    deltas: Deltas, probabilities: Callable[[Tensor, str], Tensor], seed: int, rescale: Rescale
) -> Entrywise:
    """A function that keeps each entry with a probability, and divides it by that if it is to be rescaled so.

    Args:
        deltas: the task vectors.
        probabilities: those of a piece of a tensor, ``[T, n]`` or ``[T, 1]``.
        seed: the seed of the masks.
        rescale: see `Rescale`.
    """

    def change(tau: Tensor, name: str, where: slice) -> Tensor:
        keep = probabilities(tau, name)
        kept = drawn(keep.cpu(), seed, deltas.experts, name, where.start, tau.shape[1])
        tau.mul_(kept.to(tau.device))
        return tau.div_(keep.to(tau)) if rescale == "probability" else tau

    return change


def rescaled(deltas: Deltas, kept: Deltas, rescale: Rescale) -> Deltas:
    """What was kept of task vectors; by ``l1``, each tensor's magnitudes sum to what they did before."""
    if rescale != "l1":
        return kept

    @cache
    def factors(name: str) -> Tensor:
        before, after = magnitudes(deltas, name), magnitudes(kept, name)
        return (before / after).where(torch.minimum(before, after) >= NEGLIGIBLE, 1.0)[:, None]

    return kept.map(lambda tau, name, where: tau.mul_(factors(name).to(tau)))


def magnitudes(deltas: Deltas, name: str) -> Tensor:
    """The sum of each expert's magnitudes in one tensor, float64 ``[T]``."""
    total = torch.zeros(len(deltas.experts), dtype=torch.float64)
    for _, tau in deltas.pieces(name):
        total += tau.abs_().sum(dim=1, dtype=torch.float64).cpu()
    return total


def weigh(deltas: Deltas, weights: Sequence[float]) -> Deltas:
    """Each expert's task vector times its weight."""
    if set(weights) == {1.0}:
        return deltas
    w = torch.tensor(weights)[:, None]
    return deltas.map(lambda tau, name, where: tau.mul_(w.to(tau.device)))


def fuse(deltas: Deltas, weights: Sequence[float], zeros: Zeros, aggregate: Fusion) -> Deltas:
    """Sparse task vectors times their weights, each kept where it has the elected sign, or everywhere.

    Raises:
        UserError: a negative weight, and a mean.
    """
    if aggregate == "mean" and min(weights) < 0:
        raise UserError(f"weights: {min(weights):g} is negative: give numbers of 0 or more, or aggregate=sum")
    weighed = weigh(deltas, weights)
    return weighed if aggregate == "all" else resolve(weighed, zeros, aggregate, weights)


def resolve(
    deltas: Deltas, zeros: Zeros, aggregate: Aggregate = "mean", weights: Sequence[float] | None = None
) -> Deltas:
    """Keep at each entry the experts that have the elected sign, divided by the number of these.

    The elected sign is that of the sum over experts; where that sum is exactly zero though some terms are
    not, the majority of all elected signs (of the whole task vector or of the tensor), or plus.

    Args:
        deltas: the sparsified task vectors.
        zeros: what is elected where the sum is zero.
        aggregate: ``sum`` omits the division.
        weights: what each expert counts in the division, by default 1.
    """

    scratch = Scratch()
    w = torch.tensor(weights or [1.0] * len(deltas.experts))

    @cache
    def majority(name: str | None) -> float:
        names = list(deltas) if name is None else [name]
        votes = sum(float(elect(tau).sum()) for n in names for _, tau in deltas.pieces(n))
        return float(votes > 0) - float(votes < 0)

    def change(tau: Tensor, name: str, where: slice) -> Tensor:
        sign = elect(tau)
        # 1 where experts cancel exactly, else 0.
        cancelled = torch.abs(tau, out=scratch(tau)).sum(dim=0).sign_().sub_(sign.abs())
        if float(cancelled.sum()) > 0:
            elected = 1.0 if zeros == "plus" else majority(None if zeros == "model" else name)
            sign.add_(cancelled, alpha=elected)
        return disjoint(tau, sign, w.to(tau.device) if aggregate == "mean" else None, scratch(tau))

    return deltas.map(change)


def elect(tau: Tensor) -> Tensor:
    """The sign of the sum over experts."""
    return tau.sum(dim=0).sign_()


def disjoint(tau: Tensor, sign: Tensor, weights: Tensor | None, scratch: Tensor) -> Tensor:
    """Zero the entries of ``[T, n]`` without the sign, divide by the weights of those with it, ``[T]``.

    They sum to the mean of vectors that are multiplied by these weights; without weights to their sum.
    """
    agree = torch.mul(tau, sign, out=scratch).gt_(0)
    tau.mul_(agree)
    return tau if weights is None else tau.div_(torch.mv(agree.T, weights).clamp_min_(TINY))
