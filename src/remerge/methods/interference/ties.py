"""TIES: trim, elect sign, disjoint mean."""

from collections.abc import Sequence

from remerge.deltas import Combined, Deltas
from remerge.methods import Factors, Recipe, Scales, Scope, Shares, method, per_expert
from remerge.methods.interference._interference import Aggregate, Zeros, fuse, trim


def recipe(
    experts: Sequence[str],
    *,
    density: Shares,
    weights: Factors,
    scale: Scales,
    scope: Scope,
    aggregate: Aggregate,
) -> Recipe | None:
    """mergekit's ties, which trims each tensor; of magnitudes that tie with the last it keeps some."""
    lam = set(per_expert(scale, experts, "ties: scale"))
    if scope == "model" or len(lam) > 1:
        return None
    w, shares = per_expert(weights, experts, "ties: weights"), per_expert(density, experts, "ties: density")
    return Recipe("ties", w, {"lambda": lam.pop(), "normalize": aggregate == "mean"}, shares)


@method(label="TIES", citation="Yadav et al., 2023, arXiv:2306.01708", mergekit=recipe)
def ties(
    deltas: Deltas,
    *,
    density: Shares = 0.2,
    weights: Factors = 1.0,
    scale: Scales = 1.0,
    scope: Scope = "model",
    aggregate: Aggregate = "mean",
) -> Combined:
    """theta_0 + lam · the mean of the trimmed entries that agree with the elected sign.

    Trim: keep the int(K·n) largest magnitudes, and any that tie with the smallest of them. Elect: the sign of
    the sum of the trimmed vectors; an exact zero takes the majority of all elected signs (authors' code), or
    plus if K is of each tensor (mergekit, PEFT). The mean divides by the number of entries that agree. The
    paper elects before any weighting, as ``scale`` does; mergekit's weights come before the election, and its
    mean divides by those of the entries that agree.

    AdaMerging++ learns coefficients over these vectors with ``aggregate="sum"``.

    Args:
        deltas: the task vectors tau_t.
        density: K, the share of largest magnitudes that each task vector keeps, or one for each.
        weights: factors of the trimmed vectors before the election, given as ``scale`` is; not negative for a
            mean.
        scale: lam, one for all experts, one for each, or by their names.
        scope: whether K is taken over the whole task vector (the paper) or each tensor.
        aggregate: mean or sum of the entries that agree.

    Cost: two passes over the T·d weights (three if an exact zero must be settled).
    """
    lam = per_expert(scale, deltas.experts, "ties: scale")
    w = per_expert(weights, deltas.experts, "ties: weights")
    trimmed = trim(deltas, per_expert(density, deltas.experts, "ties: density"), scope)
    zeros: Zeros = "model" if scope == "model" else "plus"
    return fuse(trimmed, w, zeros, aggregate).combine(lam)
