"""DRM's joint space: renormalise, prune, elect, disjoint mean (Eq. 3 to 8)."""

from typing import Annotated, Literal

import torch
from torch import Tensor

from remerge.deltas import PIECE, SAMPLE, Combined, Deltas, LowRank
from remerge.methods import Range, Scales, Share, per_expert
from remerge.methods.decomposition._basis import joint, linear_weights, stacked
from remerge.methods.interference._interference import resolve
from remerge.methods.interference._select import kth_largest

Pruning = Literal["joint", "individual"]
"""Whether there is one threshold for the entries of all tasks, or one for each task."""


def aligned(
    deltas: Deltas,
    vertical: bool,
    *,
    density: Share = 0.2,
    scale: Scales = 1.0,
    renormalise: bool = True,
    prune: bool = True,
    pruning: Pruning = "joint",
    elect: bool = True,
    disjoint: bool = True,
    rank: Share = 1.0,
    tolerance: Annotated[float, Range(0, 1, open=")")] = 0.01,
    others: Literal["average", "disjoint"] = "average",
) -> Combined:
    """sum_t lam_t · U (Gamma ⊙ Sigma_t V~_t^T) for linear layers, sum_t lam_t tau_t / T for the rest.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        vertical: whether the basis spans their rows (DRM-V) or their columns.
        density: k, the share of entries kept.
        scale: lam, one for all experts, one for each, or by their names.
        renormalise: False omits Eq. 5 and 6 (the paper's Table 3).
        prune: False keeps all entries (Table 7).
        pruning: over all tasks' entries jointly, or over each task's separately (Table 8).
        elect: False drops no entry because of its sign (Table 7).
        disjoint: False divides by T everywhere (Table 7).
        rank: the share of singular values kept, largest first (Figure 6: 1 − drop rate).
        tolerance: singular values up to this times the largest count as zero (authors' code).
        others: biases, norms and embeddings by the text's weighted average, or by election of signs and
            disjoint mean (authors' code), which divides by fewer than T where experts differ.
    """
    linear = set(linear_weights(deltas))

    def form(name: str) -> LowRank | None:
        if name not in linear:
            return None
        # Every step works in place, and the deltas are freed first: a layer's stack is large.
        U, C = coordinates(stacked(deltas, name), vertical, tolerance)
        first = max(1, int(rank * U.shape[1]))
        U, C = U[:, :first], C[:, :first]
        # The coordinates C_t are Sigma_t V~_t^T whether renormalised or not: only the pruning depends on
        # it.
        if prune:
            C.mul_(kept(C, density, renormalise, pruning))
        if elect:
            total = C.sum(dim=0)
            for c in C:
                c.mul_((c * total).ge_(0))
        if disjoint:
            held = torch.zeros_like(C[0])
            for c in C:
                held.add_(c.ne(0))
            C.div_(held.clamp_min_(1))
        else:
            C.div_(len(C))
        merged = LowRank(U, C)
        return merged.T if vertical else merged

    if others == "disjoint":
        prepared = resolve(deltas, "tensor")
    else:
        prepared = deltas.map(lambda tau, name, where: tau.div_(len(tau)))
    return prepared.replace(form).combine(per_expert(scale, deltas.experts, "drm: scale"))


def coordinates(
    stack: Tensor | list[LowRank], vertical: bool, tolerance: float = 0.01
) -> tuple[Tensor, Tensor]:
    """U ``[n, r]`` and each expert's Sigma_t V~_t^T ``[T, r, m]`` of one layer's deltas (Eq. 1 to 6).

    ``vertical``: those of the transposed deltas. The coordinates may overwrite dense deltas.
    """
    return joint(_turned(stack) if vertical else stack, relative=tolerance)


def kept(C: Tensor, density: float, renormalise: bool = True, pruning: Pruning = "joint") -> Tensor:
    """1 at the entries of V~_t^T, or V_t^T, that pruning keeps, else 0, from coordinates ``[T, r, m]``."""
    length = C.norm(dim=2, keepdim=True) if renormalise else C.norm(dim=(0, 2), keepdim=True)
    return largest(C / length.clamp_min(torch.finfo(C.dtype).tiny), density, pruning)


def largest(V: Tensor, density: float, pruning: Pruning) -> Tensor:
    """1 at the int(density·n) largest magnitudes of all tasks together, or of each, else 0; ``[T, r, m]``.

    The mask overwrites V.
    """
    flat = V.abs_().reshape(1 if pruning == "joint" else len(V), -1)
    n = flat.shape[1]
    if not n:
        return V
    drawn = torch.randint(n, (min(n, SAMPLE),), generator=torch.Generator().manual_seed(0)).to(V.device)
    at_least = kth_largest(
        lambda: torch.split(flat, PIECE["cpu"], dim=1),
        lambda: flat[:, drawn].cpu(),
        max(1, int(density * n)),
        n,
    )
    return flat.ge_(at_least[:, None].to(V.device)).view(V.shape)


def _turned(stack: Tensor | list[LowRank]) -> Tensor | list[LowRank]:
    return stack.mT if isinstance(stack, Tensor) else [delta.T for delta in stack]
