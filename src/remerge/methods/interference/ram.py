"""RAM: each entry's mean over the experts that change it."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.methods import Range, Recipe, Scales, Scope, method, per_expert
from remerge.methods.interference._interference import TINY


def recipe(
    experts: Sequence[str], *, threshold: float, boost: float, limit: float, scope: Scope, scale: Scales
) -> Recipe | None:
    """mergekit's ram, or ramplus_tl, which counts in each tensor."""
    if set(per_expert(scale, experts, "ram: scale")) != {1.0}:
        return None
    if not boost:
        return Recipe("ram", parameters={"epsilon": threshold})
    given = {"r": boost, "alpha": limit, "epsilon": threshold}
    return Recipe("ramplus_tl", parameters=given) if scope == "tensor" else None


@method(
    label="RAM", citation="Yuan et al., 2026, Reinforced Agent Merging, arXiv:2601.13572", mergekit=recipe
)
def ram(
    deltas: Deltas,
    *,
    threshold: Annotated[float, Range(0, 1)] = 1e-5,
    boost: Annotated[float, Range(0, 100)] = 0.0,
    limit: Annotated[float, Range(0, 100)] = 0.2,
    scope: Scope = "model",
    scale: Scales = 1.0,
) -> Combined:
    """theta_0 + lam · sum_t m_t ⊙ tau_t / sum_t m_t, m_t the entries of tau_t that exceed a threshold.

    RAM+ also enlarges what an expert alone changes so, by 1 + r·min(rho_t, alpha), rho_t the number of its
    changes that others share, divided by that of the others: mergekit's ramplus_tl has r = 0.1, alpha = 0.2
    and the scope ``tensor``, the authors' code r = 0.05 or 0.2, alpha = 1 and the scope ``model``. Meant for
    experts trained by reinforcement learning, which changes few entries.

    Args:
        deltas: the task vectors tau_t.
        threshold: the largest magnitude that counts as no change.
        boost: r, 0 for RAM.
        limit: alpha, the largest rho_t that counts.
        scope: whether entries are counted in the whole task vector or in each tensor.
        scale: lam, one for all experts, one for each, or by their names.

    Cost: one pass over the T·d weights; with ``boost`` two.
    """

    @cache
    def factors(name: str | None) -> Tensor:
        changed, alone = torch.zeros(2, len(deltas.experts), dtype=torch.float64)
        for n in list(deltas) if name is None else [name]:
            for _, tau in deltas.pieces(n):
                own = tau.abs_() > threshold
                changed += own.sum(dim=1).cpu()
                alone += (own & (own.sum(dim=0) == 1)).sum(dim=1).cpu()
        rho = (changed - alone) / alone.clamp_min(TINY)
        enlarged: Tensor = 1 + boost * rho.clamp_max(limit)
        return enlarged[:, None]

    def share(tau: Tensor, name: str, where: slice) -> Tensor:
        own = tau.abs() > threshold
        count = own.sum(dim=0)
        tau.mul_(own).div_(count.clamp_min(1))
        if boost:
            tau.mul_(factors(None if scope == "model" else name).to(tau).where(count == 1, 1.0))
        return tau

    return deltas.map(share).combine(per_expert(scale, deltas.experts, "ram: scale"))
