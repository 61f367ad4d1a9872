"""Merges that lie in the span of the task vectors: their coefficients follow from the inner products alone.

So they are task arithmetic (DivMerge, Appendix E): one pass for the T × T inner products of each tensor, in
float64, one for the weighted sum.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError


def combine_by(deltas: Deltas, coefficients: Callable[[str, Tensor], Tensor]) -> Merged:
    """sum_t lam_t tau_t in each tensor, lam from ``coefficients(name, gram)``, gram float64 ``[T, T]``.

    Raises:
        UserError: an expert equals the base in every tensor, so it has no direction.
    """
    grams = {name: deltas.gram(name) for name in deltas}
    for name, gram in grams.items():
        if not bool(torch.isfinite(gram).all()):
            raise deltas.blame(name)
    lengths = torch.stack([gram.diagonal() for gram in grams.values()]).sum(dim=0)
    for expert, length in zip(deltas.experts, lengths.tolist(), strict=True):
        if length == 0:
            raise UserError(f"expert {expert} equals the base, so it has no direction: leave it out")
    return deltas.combine({name: coefficients(name, gram).tolist() for name, gram in grams.items()})


def norms(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors' norms, and what makes each a unit vector; a zero vector stays zero."""
    norm = gram.diagonal().sqrt()
    return norm, torch.where(norm > 0, 1 / norm, 0)


def mean_direction(name: str, gram: Tensor, along: Tensor) -> Tensor:
    """``along``, coefficients in the span, divided by the length of the vector that they make.

    Raises:
        UserError: they make a zero vector.
    """
    length = (along @ gram @ along).clamp_min(0).sqrt()
    if length < 1e-6:
        raise UserError(f"{name}: the task vectors cancel, there is no mean direction: use average")
    return along / length
