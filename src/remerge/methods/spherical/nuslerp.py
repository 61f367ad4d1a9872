"""NuSLERP: two task vectors, or two models, on the great circle between them, however near they are."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError
from remerge.methods import Needs, Recipe, Weights, method, normalised
from remerge.methods.spherical._span import Of, combine_by, norms

COLINEAR = 2**-25
"""The distance of a cosine from 1 or -1 that float32, and so mergekit, rounds away."""


def recipe(experts: Sequence[str], *, weights: Weights | None, of: Of) -> Recipe:
    """mergekit's nuslerp, of whole tensors."""
    w = normalised(weights, experts, "nuslerp: weights")
    return Recipe("nuslerp", w, base="base" if of == "deltas" else "none")


@method(
    label="NuSLERP",
    citation="Shoemake, 1985; Goddard et al., 2024, arXiv:2403.13257",
    needs=Needs(experts=2),
    mergekit=recipe,
)
def nuslerp(deltas: Deltas, *, weights: Weights | None = None, of: Of = "deltas") -> Merged:
    """theta_0 + (sin(w_1·phi) tau_1 + sin(w_2·phi) tau_2) / sin phi, phi the angle between tau_1 and tau_2.

    For each tensor separately. As SLERP with t = w_2, which is linear where they are nearly parallel; this is
    only if they are parallel or opposite: w_1 tau_1 + w_2 tau_2. The angle to a zero vector counts as a right
    angle.

    Args:
        deltas: the task vectors of two experts.
        weights: w_1 and w_2, divided by their sum; 1/2 each if not given.
        of: whether the circle passes through task vectors or weights, theta_t for tau_t and 0 for theta_0.

    Raises:
        UserError: not two experts, or one equals the base.

    Cost: two passes over the 2·d weights.
    """
    if len(deltas.experts) != 2:
        raise UserError(f"nuslerp takes two experts, not {len(deltas.experts)}: use multi_slerp")
    w = torch.tensor(normalised(weights, deltas.experts, "nuslerp: weights"), dtype=torch.float64)

    def coefficients(name: str, gram: Tensor) -> Tensor:
        _, inverse = norms(gram)
        cos = float(gram[0, 1] * inverse.prod())
        if 1 - abs(cos) < COLINEAR:
            return w
        phi = math.acos(cos)
        return (w * phi).sin() / math.sin(phi)

    return combine_by(deltas, coefficients, of)
