"""DRM's joint space: renormalise, prune, elect, disjoint mean (Eq. 3 to 8)."""

from typing import Literal

import torch
from torch import Tensor

from remerge.deltas import Deltas, LowRank
from remerge.methods.decomposition._basis import joint, linear_weights, stacked

Pruning = Literal["joint", "individual"]
"""Whether one threshold holds for all tasks' entries, or one for each task's."""


def aligned(
    deltas: Deltas,
    *,
    vertical: bool,
    density: float,
    renormalise: bool,
    prune: bool,
    pruning: Pruning,
    elect: bool,
    disjoint: bool,
    rank: float,
    tolerance: float,
) -> Deltas:
    """Gamma ⊙ Sigma_t V~_t^T back through U for linear layers, tau_t / T for all else."""
    linear = set(linear_weights(deltas))

    def form(name: str) -> LowRank | None:
        if name not in linear:
            return None
        stack = stacked(deltas, name)
        if vertical:
            stack = stack.mT if isinstance(stack, Tensor) else [delta.T for delta in stack]
        U, C = joint(stack, relative=tolerance)
        kept = max(1, int(rank * U.shape[1]))
        U, C = U[:, :kept], C[:, :kept]
        # The coordinates C_t are Sigma_t V~_t^T whether renormalised or not: only what is pruned depends on
        # it.
        if prune:
            length = C.norm(dim=2, keepdim=True) if renormalise else C.norm(dim=(0, 2), keepdim=True)
            C = C * largest(C / length.clamp_min(torch.finfo(C.dtype).tiny), density, pruning)
        if elect:
            C = C * (C * C.sum(dim=0)).ge(0)
        C = C / (C.ne(0).sum(dim=0).clamp_min(1) if disjoint else len(C))
        merged = LowRank(U, C)
        return merged.T if vertical else merged

    count = len(deltas.experts)
    return deltas.map(lambda tau, name, where: tau.div_(count)).replace(form)


def largest(V: Tensor, density: float, pruning: Pruning) -> Tensor:
    """1 at the int(density·n) largest magnitudes of all tasks together or of each, else 0; ``[T, r, m]``."""
    flat = V.abs().reshape(1 if pruning == "joint" else len(V), -1)
    if not flat.shape[1]:
        return V
    kept = max(1, int(density * flat.shape[1]))
    at_least = flat.kthvalue(flat.shape[1] - kept + 1, dim=1).values
    return flat.ge(at_least[:, None]).view_as(V)
