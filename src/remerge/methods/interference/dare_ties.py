"""DARE-TIES: drop at random, rescale, elect sign, disjoint mean."""

from remerge.deltas import Combined, Deltas
from remerge.methods import Factors, Scales, Shares, method, per_expert
from remerge.methods.interference._interference import Aggregate, Election, Rescale, drop, fuse


@method(label="DARE-TIES", citation="Yu et al., 2024, arXiv:2311.03099")
def dare_ties(
    deltas: Deltas,
    *,
    density: Shares = 0.2,
    weights: Factors = 1.0,
    scale: Scales = 1.0,
    aggregate: Aggregate = "mean",
    rescale: Rescale = "probability",
    zeros: Election = "model",
    seed: int = 0,
) -> Combined:
    """theta_0 + lam · TIES' disjoint mean of m_t ⊙ tau_t / (1−p), m_t random with P(m_t = 0) = p.

    mergekit rescales otherwise: in each tensor, the magnitudes of m_t ⊙ tau_t sum to those of tau_t again.

    Args:
        deltas: the task vectors tau_t.
        density: 1−p, the share of entries kept, or one for each task vector.
        weights: factors of the sparse vectors before the election, as in TIES.
        scale: lam, one for all experts, one for each, or by their names.
        aggregate: mean or sum of the entries that agree with the elected sign.
        rescale: by the probability (the paper), by the sum of a tensor's magnitudes (mergekit), or not.
        zeros: what is elected where experts cancel: the majority in the whole model, or plus (mergekit).
        seed: the seed of the masks, which otherwise depend only on the names of the expert and the tensor.

    Cost: one pass over the T·d weights and T·d random numbers; with ``l1`` three, and twice as many numbers.
    """
    lam = per_expert(scale, deltas.experts, "dare_ties: scale")
    w = per_expert(weights, deltas.experts, "dare_ties: weights")
    shares = per_expert(density, deltas.experts, "dare_ties: density")
    return fuse(drop(deltas, shares, seed, rescale), w, zeros, aggregate).combine(lam)
