"""The Karcher mean of the directions of task vectors, or of weights, at their mean length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.errors import UserError
from remerge.methods import Recipe, Weights, method, normalised
from remerge.methods.spherical._span import Of, combine_by, mean_direction, norms

STEPS, TOLERANCE = 200, 1e-9


def recipe(experts: Sequence[str], *, weights: Weights | None, of: Of) -> Recipe | None:
    """mergekit's karcher, of weights, which it does not weigh."""
    equal = len(set(normalised(weights, experts, "karcher: weights"))) == 1
    return (
        Recipe("karcher", parameters={"max_iter": STEPS}, base="none") if of == "weights" and equal else None
    )


@method(
    label="Karcher mean",
    citation="Grove and Karcher, 1973; Goddard et al., 2024, arXiv:2403.13257; DivMerge, Appendix E",
    mergekit=recipe,
)
def karcher(deltas: Deltas, *, weights: Weights | None = None, of: Of = "deltas") -> Merged:
    """theta_0 + (sum_t w_t ‖tau_t‖) · u, where u has the least mean squared angle to the tau_t.

    For each tensor separately, with u_t = tau_t/‖tau_t‖: from their normalised mean, step along
    v = sum_t w_t (phi_t / sin phi_t) (u_t − cos phi_t · u), u ← cos‖v‖ u + sin‖v‖ v/‖v‖, until ‖v‖ vanishes.
    All steps use only the coefficients of the u_t. DivMerge speaks of task vectors, for which this is task
    arithmetic; mergekit uses the weights, theta_t for tau_t and zero for theta_0, in float32, whose rounding
    is larger than the angles between experts that are close to each other.

    Args:
        deltas: the task vectors tau_t.
        weights: w_t, divided by their sum; 1/T each if not given.
        of: whether the directions are those of task vectors or of weights.

    Raises:
        UserError: the directions cancel or one opposes their mean, or an expert equals the base.

    Cost: two passes over the T·d weights, and T²·d for the inner products.
    """
    w = torch.tensor(normalised(weights, deltas.experts, "karcher: weights"), dtype=torch.float64)

    def coefficients(name: str, gram: Tensor) -> Tensor:
        norm, inverse = norms(gram)
        if not bool(norm.any()):
            return torch.zeros_like(w)
        cosines = gram * inverse * inverse[:, None]
        alpha = torch.where(norm > 0, w, 0)
        alpha = alpha / alpha.sum()
        u = mean_direction(name, cosines, alpha)
        for _ in range(STEPS):
            cos = (cosines @ u).clamp(-1, 1)
            if bool(((cos <= 1e-12 - 1) & (alpha > 0)).any()):
                raise UserError(f"{name}: a task vector opposes the mean of the directions: use average")
            phi = cos.arccos()
            pull = alpha * torch.where(phi > 1e-7, phi / phi.sin(), 1)
            v = pull - (pull @ cos) * u
            length = (v @ cosines @ v).clamp_min(0).sqrt()
            if length < TOLERANCE:
                break
            u = mean_direction(name, cosines, length.cos() * u + length.sin() / length * v)
        return (w @ norm) * u * inverse

    return combine_by(deltas, coefficients, of)
