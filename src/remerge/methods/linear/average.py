"""The mean of the experts."""

from collections.abc import Sequence

from remerge.deltas import Deltas, Merged
from remerge.methods import Recipe, Weights, method, normalised


def recipe(experts: Sequence[str], *, weights: Weights | None) -> Recipe:
    """mergekit's linear."""
    return Recipe("linear", normalised(weights, experts, "average: weights"), base="none")


@method(label="Model averaging", citation="Wortsman et al., 2022, arXiv:2203.05482", mergekit=recipe)
def average(deltas: Deltas, *, weights: Weights | None = None) -> Merged:
    """theta_0 + sum_t w_t tau_t, where the w_t sum to 1: the mean of the experts.

    Args:
        deltas: the task vectors tau_t.
        weights: w_t, divided by their sum; 1/T each if not given.

    Cost: one pass over the T·d weights.
    """
    return deltas.combine(normalised(weights, deltas.experts, "average: weights"))
