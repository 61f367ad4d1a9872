"""DRM-V: align weight deltas in a joint basis of their rows, renormalise, prune, merge."""

from functools import partial
from typing import Annotated

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Range, Scales, Share, method, per_expert
from remerge.methods.decomposition._drm import Pruning, aligned


@method(
    citation="Chaichana et al., 2025, Decom-Renorm-Merge, Section 4.2, arXiv:2505.23117",
    preparation=partial(aligned, vertical=True),
)
def drm_v(
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
    """theta_0 + DRM-H of the transposed weight deltas, transposed: a joint basis of their rows.

    What `drm_h` says of the rows of V_t^T it says of the columns of U_t here, [ΔW_1; …; ΔW_T] = [U_1; …; U_T]
    Sigma V^T.

    Args:
        base: theta_0.
        deltas: the task vectors; those of linear layers are the ΔW_t.
        density, scale, renormalise, prune, pruning, elect, disjoint, rank, tolerance: as in `drm_h`.

    Cost: for a matrix n × m a Gram matrix of side min(m, T·n), its
    eigenvectors; for factors of rank r only matrices of T·r.
    """
    lam = per_expert(scale, deltas.experts, "drm_v: scale")
    return aligned(
        deltas,
        vertical=True,
        density=density,
        renormalise=renormalise,
        prune=prune,
        pruning=pruning,
        elect=elect,
        disjoint=disjoint,
        rank=rank,
        tolerance=tolerance,
    ).combine(lam)
