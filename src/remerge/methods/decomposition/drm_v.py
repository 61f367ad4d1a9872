"""DRM-V: align weight deltas in a joint basis of their rows, renormalise, prune, merge."""

from typing import Any

from remerge.deltas import Combined, Deltas
from remerge.methods import method
from remerge.methods.decomposition._drm import aligned


@method(
    label="DRM-V",
    citation="Chaichana et al., 2025, Decom-Renorm-Merge, Section 4.2, arXiv:2505.23117",
    parameters=aligned,
)
def drm_v(deltas: Deltas, **settings: Any) -> Combined:
    """theta_0 + DRM-H of the transposed weight deltas, transposed: a joint basis of their rows.

    The columns of U_t, [ΔW_1; …; ΔW_T] = [U_1; …; U_T] Sigma V^T, are treated as `drm_h` treats the rows of
    V_t^T.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        settings: see `aligned`.

    Cost: for a matrix n × m a Gram matrix of side min(m, T·n), its
    eigenvectors; for factors of rank r only matrices of T·r.
    """
    return aligned(deltas, vertical=True, **settings)
