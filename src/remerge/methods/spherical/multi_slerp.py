"""Multi-SLERP: the mean direction of the task vectors at their mean length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.methods import Recipe, Weights, method, normalised
from remerge.methods.spherical._span import combine_by, mean_direction, norms


def recipe(experts: Sequence[str], *, weights: Weights | None) -> Recipe:
    """mergekit's multislerp."""
    return Recipe("multislerp", normalised(weights, experts, "multi_slerp: weights"))


@method(label="Multi-SLERP", citation="Goddard et al., 2024, arXiv:2403.13257", mergekit=recipe)
def multi_slerp(deltas: Deltas, *, weights: Weights | None = None) -> Merged:
    """theta_0 + (sum_t w_t ‖tau_t‖) · m, where m is the unit vector along sum_t w_t tau_t/‖tau_t‖.

    For each tensor separately. The published code's tangent-space steps reduce to exactly this. In a tensor
    that an expert has not changed, that expert has no direction and no length.

    Args:
        deltas: the task vectors tau_t.
        weights: w_t, divided by their sum; 1/T each if not given.

    Raises:
        UserError: the weighted directions cancel, or an expert equals the base.

    Cost: two passes over the T·d weights, and T²·d for the inner products.
    """
    w = torch.tensor(normalised(weights, deltas.experts, "multi_slerp: weights"), dtype=torch.float64)

    def coefficients(name: str, gram: Tensor) -> Tensor:
        norm, inverse = norms(gram)
        if not bool(norm.any()):
            return torch.zeros_like(w)
        return (w @ norm) * mean_direction(name, gram, w * inverse)

    return combine_by(deltas, coefficients)
