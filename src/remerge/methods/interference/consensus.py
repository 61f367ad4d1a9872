"""Consensus task arithmetic: keep the entries that several tasks use."""

from typing import Annotated

from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.methods import Range, Scales, method, per_expert


@method(label="Consensus TA", citation="Wang et al., 2024, TALL-masks, arXiv:2405.07813")
def consensus(
    deltas: Deltas,
    *,
    strictness: Annotated[float, Range(0, 100)] = 0.4,
    agreement: Annotated[int, Range(1)] = 2,
    scale: Scales = 0.4,
) -> Combined:
    """theta_0 + m ⊙ sum_t lam_t tau_t, m the entries that at least k tasks use: sum_t m_t ≥ k.

    A task uses an entry, m_t = 1, where |tau_t| > strictness · |tau_MTL − tau_t|, with tau_MTL = sum_t tau_t:
    where the sum of all leaves its own weight nearer to it than to the base. Entries used by one task alone
    ("selfish") or by none ("catastrophic") go back to theta_0. Of fewer than k tasks, all must use an entry.

    Args:
        deltas: the task vectors tau_t.
        strictness: the paper's lambda, 0.2 to 0.6 there, chosen for each task; the larger, the fewer entries.
        agreement: k, the number of tasks that use an entry.
        scale: lam (the paper's alpha), one for all experts, one for each, or by their names.

    Cost: one pass over the T·d weights.
    """
    k = min(agreement, len(deltas.experts))

    def keep(tau: Tensor, name: str, where: slice) -> Tensor:
        used = tau.abs() > strictness * (tau.sum(dim=0) - tau).abs()
        return tau.mul_(used.sum(dim=0) >= k)

    return deltas.map(keep).combine(per_expert(scale, deltas.experts, "consensus: scale"))
