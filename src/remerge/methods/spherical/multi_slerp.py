"""Multi-SLERP: the mean direction of the task vectors at their mean length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged, State
from remerge.errors import UserError
from remerge.methods import Share, method, per_expert


@method(citation="Goddard et al., 2024, arXiv:2403.13257")
def multi_slerp(base: State, deltas: Deltas, *, weights: Sequence[Share] | None = None) -> Merged:
    """theta_0 + (sum_t w_t ‖tau_t‖) · m with m the unit vector along sum_t w_t tau_t/‖tau_t‖.

    Each tensor by itself. The published code's tangent-space steps reduce to exactly this.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        weights: w_t, normalised to sum 1; 1/T each if not given.

    Raises:
        UserError: the weighted directions cancel, so there is no mean direction.

    Cost: three passes over the T·d weights.
    """
    w = torch.tensor(per_expert(weights, len(deltas.experts), "multi_slerp: weights"))
    w = w / w.sum()

    def merge(tau: Tensor) -> Tensor:
        norm = tau.flatten(1).norm(dim=1)
        if not bool(norm.any()):
            return tau[0]
        along = w.to(tau.device) / norm.clamp_min(torch.finfo(tau.dtype).tiny)
        direction = torch.tensordot(along, tau, dims=1)
        length = direction.norm()
        if float(length) < 1e-6:
            raise UserError(
                "multi_slerp: the task vectors cancel in a tensor, there is no mean direction: use average"
            )
        direction *= (w.to(tau.device) @ norm) / length
        return direction

    return deltas.tensorwise(merge)
