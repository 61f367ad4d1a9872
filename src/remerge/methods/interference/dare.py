"""DARE: drop at random, rescale, then task arithmetic."""

from remerge.deltas import Combined, Deltas
from remerge.methods import Scales, Shares, method, per_expert
from remerge.methods.interference._interference import Rescale, drop


@method(label="DARE", citation="Yu et al., 2024, arXiv:2311.03099")
def dare(
    deltas: Deltas,
    *,
    density: Shares = 0.2,
    scale: Scales = 0.4,
    rescale: Rescale = "probability",
    seed: int = 0,
) -> Combined:
    """theta_0 + sum_t lam_t m_t ⊙ tau_t / (1−p), m_t random for each entry with P(m_t = 0) = p.

    mergekit rescales otherwise: in each tensor, the magnitudes of m_t ⊙ tau_t sum to those of tau_t again.

    Args:
        deltas: the task vectors tau_t.
        density: 1−p, the share of entries kept, or one for each task vector.
        scale: lam, one for all experts, one for each, or by their names.
        rescale: by the probability (the paper), by the sum of a tensor's magnitudes (mergekit), or not.
        seed: the seed of the masks, which otherwise depend only on the names of the expert and the tensor.

    Cost: one pass over the T·d weights and T·d random numbers; with ``l1`` three, and twice as many numbers.
    """
    shares = per_expert(density, deltas.experts, "dare: density")
    return drop(deltas, shares, seed, rescale).combine(per_expert(scale, deltas.experts, "dare: scale"))
