"""Merges in the span of the task vectors, or of the weights, with coefficients only from the inner products.

On task vectors they are task arithmetic (DivMerge, Appendix E). One pass computes the T × T inner products of
each tensor in float64, and another the weighted sum.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError

Of = Literal["deltas", "weights"]
"""The vectors on the sphere: the task vectors tau_t, or the experts' weights theta_t."""


def combine_by(deltas: Deltas, coefficients: Callable[[str, Tensor], Tensor], of: Of = "deltas") -> Merged:
    """sum_t lam_t tau_t, or lam_t theta_t, in each tensor: lam from ``coefficients(name, gram)``.

    ``gram`` are the inner products, float64 ``[T, T]``.

    Raises:
        UserError: a vector is zero in every tensor and so has no direction: an expert that equals the base.
    """
    grams = {name: deltas.gram(name, weights=of == "weights") for name in deltas}
    for name, gram in grams.items():
        if not bool(torch.isfinite(gram).all()):
            raise deltas.blame(name)
    lengths = torch.stack([gram.diagonal() for gram in grams.values()]).sum(dim=0)
    for expert, length in zip(deltas.experts, lengths.tolist(), strict=True):
        if length == 0:
            what = "equals the base" if of == "deltas" else "is zero"
            raise UserError(f"expert {expert} {what}, so it has no direction: leave it out")
    lam = {name: coefficients(name, gram).tolist() for name, gram in grams.items()}
    if of == "deltas":
        return deltas.combine(lam)

    def merge(tau: Tensor, name: str, where: slice) -> Tensor:
        # sum_t lam_t theta_t - theta_0, with theta_t = theta_0 + tau_t
        theta_0 = deltas.base[name].reshape(-1)[where].float()
        summed = tau.T @ torch.tensor(lam[name], dtype=tau.dtype, device=tau.device)
        return summed.add_(theta_0, alpha=math.fsum([*lam[name], -1]))

    return deltas.entrywise(merge)


def norms(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors' norms, and the factors that make them unit vectors; a zero vector stays zero."""
    norm = gram.diagonal().sqrt()
    return norm, torch.where(norm > 0, 1 / norm, 0)


def mean_direction(name: str, gram: Tensor, along: Tensor) -> Tensor:
    """``along``, coefficients in the span, divided by the length of their vector.

    Raises:
        UserError: their vector is zero.
    """
    length = (along @ gram @ along).clamp_min(0).sqrt()
    if length < 1e-6:
        raise UserError(f"{name}: the task vectors cancel and have no mean direction: use average")
    return along / length
