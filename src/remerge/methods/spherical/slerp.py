"""SLERP: two task vectors, or two models, on the great circle between them."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError
from remerge.methods import Needs, Range, Recipe, method
from remerge.methods.spherical._span import Of, combine_by, norms


def recipe(experts: Sequence[str], *, t: float, of: Of) -> Recipe | None:
    """mergekit's slerp, for weights; it starts at its base model."""
    return Recipe("slerp", parameters={"t": t}, base="first") if of == "weights" else None


@method(
    label="SLERP",
    citation="Shoemake, 1985; Goddard et al., 2024, arXiv:2403.13257; DivMerge, Appendix E",
    needs=Needs(experts=2),
    mergekit=recipe,
)
def slerp(deltas: Deltas, *, t: Annotated[float, Range(0, 1)] = 0.5, of: Of = "deltas") -> Merged:
    """theta_0 + (sin((1−t)·phi) tau_1 + sin(t·phi) tau_2) / sin phi, phi the angle between tau_1 and tau_2.

    For each tensor separately. If they are nearly parallel (|cos phi| > 0.9995): (1−t) tau_1 + t tau_2. The
    angle to a zero vector counts as a right angle. DivMerge speaks of task vectors, for which this is task
    arithmetic; mergekit uses the weights, theta_t for tau_t and zero for theta_0.

    Args:
        deltas: the task vectors of two experts.
        t: the position between the first expert (0) and the second (1).
        of: whether the circle passes through task vectors or weights.

    Raises:
        UserError: not two experts, or one equals the base.

    Cost: two passes over the 2·d weights.
    """
    if len(deltas.experts) != 2:
        raise UserError(f"slerp takes two experts, not {len(deltas.experts)}: use multi_slerp")

    def coefficients(name: str, gram: Tensor) -> Tensor:
        _, inverse = norms(gram)
        cos = float(gram[0, 1] * inverse.prod())
        if abs(cos) > 0.9995:
            return torch.tensor([1 - t, t], dtype=torch.float64)
        phi = math.acos(cos)
        return torch.tensor([math.sin((1 - t) * phi), math.sin(t * phi)], dtype=torch.float64) / math.sin(phi)

    return combine_by(deltas, coefficients, of)
