"""SLERP: two models on the great circle between them."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError
from remerge.methods import Needs, Range, Recipe, method


def recipe(experts: Sequence[str], *, t: float) -> Recipe:
    """mergekit's slerp, which starts at its base model."""
    return Recipe("slerp", parameters={"t": t}, base="first")


@method(
    label="SLERP",
    citation="Shoemake, 1985; Goddard et al., 2024, arXiv:2403.13257",
    needs=Needs(experts=2),
    mergekit=recipe,
)
def slerp(deltas: Deltas, *, t: Annotated[float, Range(0, 1)] = 0.5) -> Merged:
    """(sin((1−t)·phi) theta_1 + sin(t·phi) theta_2) / sin phi, phi the angle between the two experts.

    Each tensor by itself, on the weights themselves, not on their deltas. Where they are nearly parallel
    (|cos phi| > 0.9995) or one is zero: (1−t) theta_1 + t theta_2.

    Args:
        deltas: the task vectors of two experts.
        t: how far from the first expert to the second.

    Raises:
        UserError: not two experts.

    Cost: two passes over the 2·d weights.
    """
    if len(deltas.experts) != 2:
        raise UserError(f"slerp takes two experts, not {len(deltas.experts)}: use multi_slerp")
    lam = {name: _coefficients(deltas.gram(name, weights=True), t) for name in deltas}

    def merge(tau: Tensor, name: str, where: slice) -> Tensor:
        a, b = lam[name]
        # a theta_1 + b theta_2 - theta_0, with theta = theta_0 + tau
        theta_0 = deltas.base[name].reshape(-1)[where].float()
        return a * tau[0] + b * tau[1] + (a + b - 1) * theta_0

    return deltas.entrywise(merge)


def _coefficients(gram: Tensor, t: float) -> tuple[float, float]:
    norm = gram.diagonal().sqrt()
    cos = float((gram[0, 1] / norm.prod()).clamp(-1, 1)) if bool(torch.all(norm > 1e-8)) else 1.0
    if not abs(cos) <= 0.9995:
        return 1 - t, t
    phi = math.acos(cos)
    return math.sin((1 - t) * phi) / math.sin(phi), math.sin(t * phi) / math.sin(phi)
