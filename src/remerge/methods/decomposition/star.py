"""STAR: every task's leading singular triplets, rescaled to its nuclear norm, and their mean."""

import torch

from remerge.deltas import Combined, Deltas, LowRank
from remerge.methods import Scales, Share, method, per_expert
from remerge.methods.decomposition._basis import linear_weights, singular, stacked


@method(label="STAR", citation="Lee et al., 2025, Spectral Truncation and Rescale, arXiv:2502.10339")
def star(deltas: Deltas, *, nuclear: Share = 0.4, scale: Scales = 1.0) -> Combined:
    """theta_0 + sum_t lam_t · (‖ΔW_t‖ / ‖ΔW'_t‖) ΔW'_t / T, ΔW'_t the leading singular triplets of ΔW_t.

    They are the fewest whose singular values sum to at least eta times the nuclear norm ‖ΔW_t‖, the sum of
    all; they are enlarged, so that the norm stays. All tensors but linear layers' weights become
    sum_t lam_t tau_t / T.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        nuclear: eta, the share of the nuclear norm that is kept.
        scale: lam, one for all experts, one for each, or by their names; 1 is the paper's mean.

    Cost: for each matrix, T Gram matrices of side min(n, m) with their eigenvectors.
    """
    linear = set(linear_weights(deltas))
    count = len(deltas.experts)

    def form(name: str) -> LowRank | None:
        if name not in linear:
            return None
        U, sigma, Vt, own = [], [], [], []
        for delta in stacked(deltas, name):
            u, s, vt = singular(delta)
            kept = int(s.cumsum(dim=0).lt(nuclear * s.sum()).sum()) + 1
            # Copies, so that the others leave memory.
            U.append(u.T[:kept].clone())
            sigma.append(s[:kept] * (s.sum() / s[:kept].sum()))
            Vt.append(vt[:kept].clone())
            own.append(torch.ones_like(sigma[-1][None]))
        # One row per task: Sigma at its own triplets.
        of_task = torch.block_diag(*own) * torch.cat(sigma)  # type: ignore[no-untyped-call]
        return LowRank(torch.cat(U).T, of_task[:, :, None] * torch.cat(Vt), 1 / count)

    prepared = deltas.map(lambda tau, name, where: tau.div_(count)).replace(form)
    return prepared.combine(per_expert(scale, deltas.experts, "star: scale"))
