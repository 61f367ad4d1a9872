"""DELLA: drop at random, small magnitudes more often, elect sign, disjoint mean."""

from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.errors import UserError
from remerge.methods import Range, Scales, Share, method, per_expert
from remerge.methods.interference._interference import resolve
from remerge.methods.interference._random import drawn


@method(label="DELLA", citation="Deep et al., 2024, arXiv:2406.11617")
def della(
    deltas: Deltas,
    *,
    density: Share = 0.2,
    epsilon: Annotated[float, Range(0, 0.5)] = 0.15,
    scale: Scales = 1.0,
    seed: int = 0,
) -> Combined:
    """theta_0 + lam · TIES' disjoint mean of m_t ⊙ tau_t / (1−p_t), P(m_t = 0) = p_t less for large entries.

    Within each row of a tensor, the probability of staying rises evenly with the rank of the magnitude, from
    density − epsilon for the smallest to density + epsilon for the largest.

    Args:
        deltas: the task vectors tau_t.
        density: 1−p, the mean probability of staying.
        epsilon: half the difference between the largest and the smallest probability.
        scale: lam, one for all experts, one for each, or by their names.
        seed: the seed of the masks, which otherwise depend only on the names of the expert and the tensor.

    Raises:
        UserError: density ± epsilon leaves (0, 1].

    Cost: one pass over the T·d weights, T·d random numbers, and a sort of each row.
    """
    if not 0 < density - epsilon <= density + epsilon <= 1:
        raise UserError(f"della: density {density:g} ± epsilon {epsilon:g} must be in (0, 1]: lower epsilon")

    def magprune(tau: Tensor, name: str, where: slice) -> Tensor:
        rows = tau.reshape(-1, deltas.base[name].shape[-1]) if deltas.base[name].ndim > 1 else tau
        # From -1 for the row's smallest magnitude to 1 for its largest; 0 in a row of one entry.
        middle = (rows.shape[1] - 1) / 2
        rank = (torch.arange(rows.shape[1], device=tau.device) - middle) / max(middle, 0.5)
        order = rows.abs().argsort(dim=1, stable=True)
        by_rank = (density + epsilon * rank).expand_as(rows)
        keep = torch.empty_like(rows).scatter_(1, order, by_rank).view_as(tau)
        kept = drawn(keep.cpu(), seed, deltas.experts, name, where.start, tau.shape[1])
        return tau.mul_(kept.to(tau.device)).div_(keep)

    lam = per_expert(scale, deltas.experts, "della: scale")
    return resolve(deltas.map_rows(magprune), "model").combine(lam)
