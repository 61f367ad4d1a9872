"""DRM-H: align weight deltas in a joint basis of their columns, renormalise, prune, merge."""

from typing import Any

from remerge.deltas import Combined, Deltas
from remerge.methods import method
from remerge.methods.decomposition._drm import aligned


@method(
    label="DRM-H",
    citation="Chaichana et al., 2025, Decom-Renorm-Merge, Section 4.2, arXiv:2505.23117",
    parameters=aligned,
)
def drm_h(deltas: Deltas, **settings: Any) -> Combined:
    """theta_0 + U (Gamma ⊙ sum_t lam_t Sigma_t V~_t^T) from [ΔW_1 … ΔW_T] = U Sigma [V_1^T … V_T^T].

    Rows of every V_t^T are scaled to unit length, giving V~_t^T, and their norms move into Sigma_t (Eq. 5,
    6). The entries of the V~_t^T below the top density of all tasks together are dropped, and so are those of
    Sigma_t V~_t^T whose sign opposes that of the sum over tasks; Gamma divides by the number of entries left
    (Eq. 7, 8). Biases, norms and embeddings: sum_t lam_t tau_t / T, the text's weighted average, or
    ``others``.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        settings: see `aligned`.

    Cost: for a matrix n × m a Gram matrix of side min(n, T·m), its
    eigenvectors; for factors of rank r only matrices of T·r.
    """
    return aligned(deltas, vertical=False, **settings)
