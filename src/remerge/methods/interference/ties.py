"""TIES: trim, elect sign, disjoint mean."""

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Scales, Scope, Share, method, per_expert
from remerge.methods.interference._interference import Aggregate, resolve, trim


def trimmed_consistent(deltas: Deltas, *, density: float, scope: Scope, aggregate: Aggregate) -> Deltas:
    """The trimmed entries that agree with the elected sign, each divided by how many agree."""
    return resolve(trim(deltas, density, scope), scope, aggregate)


@method(citation="Yadav et al., 2023, arXiv:2306.01708", preparation=trimmed_consistent)
def ties(
    base: State,
    deltas: Deltas,
    *,
    density: Share = 0.2,
    scale: Scales = 1.0,
    scope: Scope = "model",
    aggregate: Aggregate = "mean",
) -> Merged:
    """theta_0 + lam · the mean of the trimmed entries that agree with the elected sign.

    Trim: keep the int(K·n) largest magnitudes and what ties with the smallest of them. Elect: the sign of the
    sum of the trimmed vectors; an exact zero takes the majority of all elected signs (authors' code).
    Election comes before any weighting, the mean divides by the number of entries that agree.

    AdaMerging++ learns coefficients over these vectors with ``aggregate="sum"``.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        density: K, the share of largest magnitudes that each task vector keeps.
        scale: lam, one for all experts, one for each, or by their names.
        scope: whether K is taken over the whole task vector (the paper) or each tensor.
        aggregate: mean or sum of the entries that agree.

    Cost: two passes over the T·d weights (three if an exact zero must be settled).
    """
    lam = per_expert(scale, deltas.experts, "ties: scale")
    return trimmed_consistent(deltas, density=density, scope=scope, aggregate=aggregate).combine(lam)
