"""Model Stock: the mean of the experts, drawn towards the base by the angles between them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.methods import Recipe, method
from remerge.methods.spherical._span import combine_by, norms


def recipe(experts: Sequence[str]) -> Recipe | None:
    """mergekit's model_stock, of two experts or more."""
    return Recipe("model_stock") if len(experts) > 1 else None


@method(label="Model Stock", citation="Jang et al., 2024, arXiv:2403.19522", mergekit=recipe)
def model_stock(deltas: Deltas) -> Merged:
    """theta_0 + r · mean_t tau_t, r = T cos phi / (1 + (T−1) cos phi), cos phi the mean cosine of two tau_t.

    For each tensor separately. r is where the line from theta_0 to the mean is nearest to the centre around
    which experts of one task lie: 0 if they are orthogonal, 1 if they are one, and below 0 if cos phi is. A
    zero tau_t is orthogonal to all. Where the unit vectors cancel, r has no value, and the tensor stays
    theta_0 (mergekit).

    Args:
        deltas: the task vectors tau_t.

    Raises:
        UserError: an expert equals the base.

    Cost: two passes over the T·d weights, and T²·d for the inner products.
    """
    T = len(deltas.experts)

    def coefficients(name: str, gram: Tensor) -> Tensor:
        _, inverse = norms(gram)
        # Of a single expert, the cosine with itself.
        pairs = torch.ones(T, T).tril(-1 if T > 1 else 0)
        cos = (gram * inverse * inverse[:, None])[pairs > 0].mean()
        below = 1 + (T - 1) * cos
        r = T * cos / below if below > 1e-6 else 0.0
        return torch.full((T,), float(r) / T)

    return combine_by(deltas, coefficients)
