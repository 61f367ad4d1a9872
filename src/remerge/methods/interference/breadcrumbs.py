"""Model Breadcrumbs: drop the small and the largest entries of each tensor."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.errors import UserError
from remerge.methods import Factors, Range, Recipe, Scales, Share, method, per_expert
from remerge.methods.interference._interference import Fusion, fuse
from remerge.methods.interference._select import thresholds


def recipe(
    experts: Sequence[str],
    *,
    density: float,
    outliers: float,
    weights: Factors,
    scale: Scales,
    aggregate: Fusion,
) -> Recipe | None:
    """mergekit's breadcrumbs, or breadcrumbs_ties; of magnitudes that tie with an end it keeps some."""
    lam = per_expert(scale, experts, "breadcrumbs: scale")
    w = per_expert(weights, experts, "breadcrumbs: weights")
    given = {"density": density, "gamma": outliers}
    if aggregate == "all":
        return Recipe("breadcrumbs", [a * b for a, b in zip(lam, w, strict=True)], given)
    if len(set(lam)) > 1:
        return None
    return Recipe("breadcrumbs_ties", w, {**given, "lambda": lam[0], "normalize": aggregate == "mean"})


@method(label="Breadcrumbs", citation="Davari and Belilovsky, 2024, arXiv:2312.06795", mergekit=recipe)
def breadcrumbs(
    deltas: Deltas,
    *,
    density: Share = 0.1,
    outliers: Annotated[float, Range(0, 1, open=")")] = 0.01,
    weights: Factors = 1.0,
    scale: Scales = 0.3,
    aggregate: Fusion = "all",
) -> Combined:
    """theta_0 + sum_t lam_t m_t ⊙ tau_t, m_t without the largest and the small magnitudes of each tensor.

    Of n entries, the int(outliers·n) largest are dropped and the int(density·n) largest of the rest are kept;
    so are entries that tie with the first or last of these. The defaults are within the search of the
    authors' code: density 0.05 to 0.2, outliers 0.001 to 0.01, scale 0.01 to 1; it masks row by row.
    mergekit's breadcrumbs_ties elects signs of what is kept, as TIES does, plus where experts cancel.

    Args:
        deltas: the task vectors tau_t.
        density: the share of entries kept.
        outliers: gamma, the share of largest magnitudes dropped; density + outliers is at most 1.
        weights: factors of the sparse vectors, before an election of signs.
        scale: lam (the paper's alpha), one for all experts, one for each, or by their names.
        aggregate: the sum of all entries, or the mean or sum of those that agree with the elected sign.

    Raises:
        UserError: density + outliers is above 1.

    Cost: three passes over the T·d weights.
    """
    if density + outliers > 1:
        raise UserError(
            f"breadcrumbs: density {density:g} and outliers {outliers:g} sum to more than 1: lower one"
        )

    @cache
    def bounds(name: str) -> tuple[Tensor, Tensor]:
        d = deltas.base[name].numel()
        first, last = int(outliers * d) + 1, int(outliers * d) + int(density * d)
        # Half a rank is added, so that the product with d truncates to the rank itself.
        shares = ([(rank + 0.5) / d] * len(deltas.experts) for rank in (last, first))
        low, high = (thresholds(deltas, share, [name]) for share in shares)
        if last < first:
            low = torch.full_like(low, math.inf)
        return low[:, None], high[:, None]

    def mask(tau: Tensor, name: str, where: slice) -> Tensor:
        low, high = (bound.to(tau.device) for bound in bounds(name))
        magnitude = tau.abs()
        return tau.mul_(magnitude.ge(low).logical_and_(magnitude.le(high)))

    w = per_expert(weights, deltas.experts, "breadcrumbs: weights")
    lam = per_expert(scale, deltas.experts, "breadcrumbs: scale")
    return fuse(deltas.map(mask), w, "plus", aggregate).combine(lam)
