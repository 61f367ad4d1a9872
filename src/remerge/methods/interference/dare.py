"""DARE: drop at random, rescale, then task arithmetic."""

from remerge.deltas import Combined, Deltas
from remerge.methods import Scales, Share, method, per_expert
from remerge.methods.interference._interference import drop


@method(label="DARE", citation="Yu et al., 2024, arXiv:2311.03099")
def dare(deltas: Deltas, *, density: Share = 0.2, scale: Scales = 0.4, seed: int = 0) -> Combined:
    """theta_0 + sum_t lam_t m_t ⊙ tau_t / (1−p), m_t random for each entry with P(m_t = 0) = p.

    Args:
        deltas: the task vectors tau_t.
        density: 1−p, the share of entries kept.
        scale: lam, one for all experts, one for each, or by their names.
        seed: the seed of the masks, which otherwise depend only on the names of the expert and the tensor.

    Cost: one pass over the T·d weights and T·d random numbers.
    """
    return drop(deltas, density, seed).combine(per_expert(scale, deltas.experts, "dare: scale"))
