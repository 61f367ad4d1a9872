"""DELLA: drop at random, small magnitudes more often, elect sign, disjoint mean."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.errors import UserError
from remerge.methods import Factors, Range, Scales, Shares, method, per_expert
from remerge.methods.interference._interference import (
    Election,
    Fusion,
    Rescale,
    fuse,
    masked,
    rescaled,
)

Epsilon = Annotated[float, Range(0, 0.5)]


@method(label="DELLA", citation="Deep et al., 2024, arXiv:2406.11617")
def della(
    deltas: Deltas,
    *,
    density: Shares = 0.2,
    epsilon: Epsilon | Sequence[Epsilon] | Mapping[str, Epsilon] = 0.15,
    weights: Factors = 1.0,
    scale: Scales = 1.0,
    aggregate: Fusion = "mean",
    rescale: Rescale = "probability",
    zeros: Election = "model",
    seed: int = 0,
) -> Combined:
    """theta_0 + lam · TIES' disjoint mean of m_t ⊙ tau_t / (1−p_t), P(m_t = 0) = p_t less for large entries.

    Within each row of a tensor, the probability of staying rises evenly with the rank of the magnitude, from
    density − epsilon for the smallest to density + epsilon for the largest. mergekit rescales otherwise: in
    each tensor, the magnitudes of m_t ⊙ tau_t sum to those of tau_t again.

    Args:
        deltas: the task vectors tau_t.
        density: 1−p, the mean probability of staying, or one for each task vector.
        epsilon: half the difference between the largest and the smallest probability, or one for each.
        weights: factors of the sparse vectors before the election, as in TIES.
        scale: lam, one for all experts, one for each, or by their names.
        aggregate: mean or sum of the entries that agree with the elected sign, or the sum of all entries.
        rescale: by the probability (the paper), by the sum of a tensor's magnitudes (mergekit), or not.
        zeros: what is elected where experts cancel: the majority in the whole model, or plus (mergekit).
        seed: the seed of the masks, which otherwise depend only on the names of the expert and the tensor.

    Raises:
        UserError: density ± epsilon leaves (0, 1].

    Cost: one pass over the T·d weights, T·d random numbers, and a sort of each row; with ``l1`` three passes,
    and the rest twice.
    """
    lam = per_expert(scale, deltas.experts, "della: scale")
    w = per_expert(weights, deltas.experts, "della: weights")
    shares = per_expert(density, deltas.experts, "della: density")
    reach = per_expert(epsilon, deltas.experts, "della: epsilon")
    for share, own in zip(shares, reach, strict=True):
        if not 0 < share - own <= share + own <= 1:
            raise UserError(f"della: density {share:g} ± epsilon {own:g} must be in (0, 1]: lower epsilon")

    def by_rank(tau: Tensor, name: str) -> Tensor:
        width = deltas.base[name].shape[-1] if deltas.base[name].ndim > 1 else tau.shape[1]
        rows = tau.reshape(len(tau), -1, width)
        # From -1 for the row's smallest magnitude to 1 for its largest; 0 in a row of one entry.
        middle = (width - 1) / 2
        rank = (torch.arange(width, device=tau.device) - middle) / max(middle, 0.5)
        mean, half = (torch.tensor(values, device=tau.device)[:, None, None] for values in (shares, reach))
        order = rows.abs().argsort(dim=-1, stable=True)
        return torch.empty_like(rows).scatter_(-1, order, (mean + half * rank).expand_as(rows)).view_as(tau)

    kept = deltas.map_rows(masked(deltas, by_rank, seed, rescale))
    return fuse(rescaled(deltas, kept, rescale), w, zeros, aggregate).combine(lam)
