"""DELLA: drop at random, small magnitudes more often, elect sign, disjoint mean."""

from typing import Annotated

from torch import Tensor

from remerge.deltas import Deltas, Merged, State
from remerge.errors import UserError
from remerge.methods import Range, Scales, Share, method, per_expert
from remerge.methods.interference._interference import resolve
from remerge.methods.interference._random import drawn


def sampled_consistent(deltas: Deltas, *, density: float, epsilon: float, seed: int) -> Deltas:
    """The entries that magnitude sampling keeps, agreeing with the elected sign, divided by how many do."""
    if not 0 < density - epsilon <= density + epsilon <= 1:
        raise UserError(f"della: density {density:g} ± epsilon {epsilon:g} must lie in (0, 1]")

    def magprune(name: str) -> Tensor:
        tau = deltas[name]
        for tau_t, expert in zip(tau, deltas.experts, strict=True):
            rows = tau_t.view(-1, tau_t.shape[-1]) if tau_t.ndim > 1 else tau_t.view(1, -1)
            # A rank from 0 (smallest) to 1 within the row; a row of one entry has the middle one.
            rank = rows.abs().argsort(dim=1, stable=True).argsort(dim=1) / max(rows.shape[1] - 1, 1)
            keep = density + epsilon * (2 * rank - 1 if rows.shape[1] > 1 else 0 * rank)
            kept = drawn(keep.view(1, -1).cpu(), seed, [expert], name, 0, keep.numel()).view_as(keep)
            rows.mul_(kept.to(rows.device)).div_(keep)
        return tau

    return resolve(deltas.replace(magprune), "model")


@method(citation="Deep et al., 2024, arXiv:2406.11617", preparation=sampled_consistent)
def della(
    base: State,
    deltas: Deltas,
    *,
    density: Share = 0.2,
    epsilon: Annotated[float, Range(0, 0.5)] = 0.15,
    scale: Scales = 1.0,
    seed: int = 0,
) -> Merged:
    """theta_0 + lam · TIES' disjoint mean of m_t ⊙ tau_t / (1−p_t), where p_t falls with the magnitude's
    rank.

    Within each row of a tensor the probability to stay rises evenly with the rank of the magnitude, from
    density − epsilon for the smallest to density + epsilon for the largest.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        density: 1−p, the mean probability to stay.
        epsilon: half the difference between the largest and the smallest.
        scale: lam, one for all experts, one for each, or by their names.
        seed: of the masks, which depend on it, the expert's and the tensor's name alone.

    Raises:
        UserError: density ± epsilon leaves (0, 1].

    Cost: one pass over the T·d weights, T·d random numbers, and two sorts of each row.
    """
    lam = per_expert(scale, deltas.experts, "della: scale")
    return sampled_consistent(deltas, density=density, epsilon=epsilon, seed=seed).combine(lam)
