"""TIES: trim, elect sign, disjoint mean."""

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Scale, Scope, Share, method


@method(citation="Yadav et al., 2023, arXiv:2306.01708")
def ties(
    base: State,
    deltas: Deltas,
    *,
    density: Share = 0.2,
    scale: Scale = 1.0,
    scope: Scope = "model",
) -> Merged:
    """theta_0 + lam · the mean of the trimmed entries that agree with the elected sign.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        density: K, the share of largest magnitudes that each task vector keeps.
        scale: lam.
        scope: whether K is taken over the whole task vector (the paper) or each tensor.
    """
    threshold = thresholds(deltas, density) if scope == "model" else None

    def merge(tau: Tensor) -> Tensor:
        at_least = magnitude_threshold(tau.flatten(1), density) if threshold is None else threshold
        tau = trim(tau, at_least)
        return disjoint_mean(tau, torch.sign(tau.sum(dim=0))).mul_(scale)

    return deltas.tensorwise(merge)


def magnitude_threshold(tau: Tensor, density: float) -> Tensor:
    """The smallest magnitude among the int(density·n) largest of each row of ``[T, n]``."""
    keep = max(1, int(density * tau.shape[1]))
    return tau.abs().kthvalue(tau.shape[1] - keep + 1, dim=1).values


def thresholds(deltas: Deltas, density: float) -> Tensor:
    """The same over each expert's whole task vector, ``[T]``."""
    return magnitude_threshold(torch.cat([deltas[n].flatten(1) for n in deltas], dim=1), density)


def trim(tau: Tensor, threshold: Tensor) -> Tensor:
    """Zero the entries of ``[T, *shape]`` below each expert's threshold; ties with it stay."""
    at_least = threshold.view(-1, *[1] * (tau.ndim - 1))
    return tau.masked_fill_(tau.abs() < at_least, 0)


def disjoint_mean(tau: Tensor, sign: Tensor) -> Tensor:
    """The mean over the non-zero entries of ``[T, *shape]`` whose sign is ``sign``, else zero."""
    agree = (tau * sign) > 0
    return (tau * agree).sum(dim=0) / agree.sum(dim=0).clamp_min(1)
