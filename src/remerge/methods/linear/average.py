"""The mean of the experts."""

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Weights, method, normalised


@method(citation="Wortsman et al., 2022, arXiv:2203.05482")
def average(base: State, deltas: Deltas, *, weights: Weights | None = None) -> Merged:
    """theta_0 + sum_t w_t tau_t with w_t of sum 1: the mean of the experts.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        weights: w_t, divided by their sum; 1/T each if not given.

    Cost: one pass over the T·d weights.
    """
    return deltas.combine(normalised(weights, deltas.experts, "average: weights"))
