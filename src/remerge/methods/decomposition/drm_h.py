"""DRM-H: align weight deltas in a joint basis of their columns, renormalise, prune, merge."""

from functools import partial
from typing import Annotated

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Range, Scales, Share, method, per_expert
from remerge.methods.decomposition._drm import Pruning, aligned


@method(
    citation="Chaichana et al., 2025, Decom-Renorm-Merge, Section 4.2, arXiv:2505.23117",
    preparation=partial(aligned, vertical=False),
)
def drm_h(
    base: State,
    deltas: Deltas,
    *,
    density: Share = 0.2,
    scale: Scales = 1.0,
    renormalise: bool = True,
    prune: bool = True,
    pruning: Pruning = "joint",
    elect: bool = True,
    disjoint: bool = True,
    rank: Share = 1.0,
    tolerance: Annotated[float, Range(0, 1, open=")")] = 0.01,
) -> Merged:
    """theta_0 + U (Gamma ⊙ sum_t lam_t Sigma_t V~_t^T) from [ΔW_1 … ΔW_T] = U Sigma [V_1^T … V_T^T].

    Rows of every V_t^T are brought to unit length, V~_t^T, their norms moved into Sigma_t (Eq. 5, 6); the
    entries of the V~_t^T below the top density of all tasks together are dropped; of Sigma_t V~_t^T those are
    dropped whose sign opposes that of the sum over tasks; Gamma divides by the number of entries left (Eq. 7,
    8). Biases, norms and embeddings: sum_t lam_t tau_t / T, the text's weighted average.

    Args:
        base: theta_0.
        deltas: the task vectors; those of linear layers are the ΔW_t.
        density: k, the share of entries kept.
        scale: lam, one for all experts, one for each, or by their names.
        renormalise: False leaves Eq. 5 and 6 out (the paper's Table 3).
        prune: False keeps all entries (Table 7).
        pruning: joint, or each task's entries by themselves (Table 8).
        elect: False drops no entry for its sign (Table 7).
        disjoint: False divides by T everywhere (Table 7).
        rank: the share of the singular values kept, the largest (Figure 6: 1 − drop rate).
        tolerance: singular values up to this times the largest count as zero (authors' code).

    Cost: for a matrix n × m a Gram matrix of side min(n, T·m), its
    eigenvectors; for factors of rank r only matrices of T·r.
    """
    lam = per_expert(scale, deltas.experts, "drm_h: scale")
    return aligned(
        deltas,
        vertical=False,
        density=density,
        renormalise=renormalise,
        prune=prune,
        pruning=pruning,
        elect=elect,
        disjoint=disjoint,
        rank=rank,
        tolerance=tolerance,
    ).combine(lam)
