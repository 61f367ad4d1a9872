"""DARE-TIES: drop at random, rescale, elect sign, disjoint mean."""

from remerge.deltas import Combined, Deltas
from remerge.methods import Scales, Share, method, per_expert
from remerge.methods.interference._interference import drop, resolve


@method(label="DARE-TIES", citation="Yu et al., 2024, arXiv:2311.03099")
def dare_ties(deltas: Deltas, *, density: Share = 0.2, scale: Scales = 1.0, seed: int = 0) -> Combined:
    """theta_0 + lam · TIES' disjoint mean of m_t ⊙ tau_t / (1−p), m_t random with P(m_t = 0) = p.

    Args:
        deltas: the task vectors tau_t.
        density: 1−p, the share of entries kept.
        scale: lam, one for all experts, one for each, or by their names.
        seed: the seed of the masks, which otherwise depend only on the names of the expert and the tensor.

    Cost: one pass over the T·d weights and T·d random numbers.
    """
    lam = per_expert(scale, deltas.experts, "dare_ties: scale")
    return resolve(drop(deltas, density, seed), "model").combine(lam)
