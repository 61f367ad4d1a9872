"""KnOTS: align weight deltas in a joint basis, then TIES or DARE-TIES on their coordinates."""

from typing import Literal

import torch

from remerge.deltas import Combined, Deltas, LowRank
from remerge.methods import Needs, Scales, Share, method, per_expert
from remerge.methods.decomposition._basis import joint, linear_weights, stacked
from remerge.methods.interference.dare_ties import dare_ties
from remerge.methods.interference.ties import ties


@method(label="KnOTS", citation="Stoica et al., 2025, KnOTS, arXiv:2410.19735", needs=Needs(whole=True))
def knots(
    deltas: Deltas,
    *,
    inner: Literal["ties", "dare_ties"] = "ties",
    density: Share = 0.2,
    scale: Scales = 1.0,
    seed: int = 0,
) -> Combined:
    """theta_0 + lam · U · inner(Sigma V_1^T, …, Sigma V_T^T), [ΔW_1 … ΔW_T] = U Sigma [V_1^T …].

    The inner method trims the coordinates of all layers together. Singular values above 1e-5 are kept.
    Meant for LoRA experts; all tensors but linear layers' weights become sum_t lam_t tau_t / T.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        inner: the method that merges the coordinates.
        density: the inner method's share of entries kept.
        scale: lam, one for all experts, one for each, or by their names.
        seed: the seed of dare_ties' masks.

    Cost: for a matrix n × m a Gram matrix of side min(n, T·m), its eigenvectors; for factors of rank r only
    matrices of T·r. The coordinates of all layers stay in memory: T·r·m numbers each, r the rank of the
    concatenation.
    """
    U, C = {}, {}
    for name in linear_weights(deltas):
        U[name], C[name] = joint(stacked(deltas, name), absolute=1e-5)
    coordinates = Deltas(
        {name: torch.zeros_like(c[0]) for name, c in C.items()},
        {e: {name: c[t].contiguous() for name, c in C.items()} for t, e in enumerate(deltas.experts)},
    )
    if inner == "ties":
        kept = ties(coordinates, density=density).deltas
    else:
        kept = dare_ties(coordinates, density=density, seed=seed).deltas
    count = len(deltas.experts)
    prepared = deltas.map(lambda tau, name, where: tau.div_(count)).replace(
        lambda name: LowRank(U[name], kept[name]) if name in U else None
    )
    return prepared.combine(per_expert(scale, deltas.experts, "knots: scale"))
