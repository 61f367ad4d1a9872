"""NearSwap: the first expert, moved to the second wherever that is near."""

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError
from remerge.methods import Needs, Range, Recipe, method

NEAREST = 1e-6
"""What counts as the distance of entries that are nearer (mergekit)."""


def recipe(experts: Sequence[str], *, t: float) -> Recipe:
    """mergekit's nearswap; it starts at its base model."""
    return Recipe("nearswap", parameters={"t": t}, base="first")


@method(
    label="NearSwap",
    citation="alchemonaut, 2024, QuartetAnemoi-70B; Goddard et al., 2024, arXiv:2403.13257",
    needs=Needs(experts=2),
    mergekit=recipe,
)
def nearswap(deltas: Deltas, *, t: Annotated[float, Range(0)] = 1e-4) -> Merged:
    """theta_0 + tau_1 + w ⊙ (tau_2 − tau_1), w = min(1, t / |tau_2 − tau_1|) in each entry.

    So an entry of the first expert moves towards the second's by at most t. Distances below 1e-6 count as
    1e-6, which matters only to a smaller t. The default is that of the published model.

    Args:
        deltas: the task vectors of two experts.
        t: the largest distance by which an entry moves.

    Raises:
        UserError: not two experts.

    Cost: one pass over the 2·d weights.
    """
    if len(deltas.experts) != 2:
        raise UserError(f"nearswap takes two experts, not {len(deltas.experts)}: merge two at a time")

    def move(tau: Tensor, name: str, where: slice) -> Tensor:
        apart = tau[1] - tau[0]
        w = apart.abs().clamp_min_(NEAREST).reciprocal_().mul_(t).clamp_max_(1)
        return apart.mul_(w).add_(tau[0])

    return deltas.entrywise(move)
