"""DOGE TA: one change of all task vectors that lowers their conflicts outside of a shared subspace."""

from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.methods import Range, Scale, Share, method
from remerge.methods.decomposition._basis import linear_weights, singular, top
from remerge.methods.interference._select import thresholds

TIED = 1e-4
"""Singular values of vectors of length 1 that differ by less are rounding's choice."""


@method(label="DOGE TA", citation="Wei et al., 2025, Adaptive Projective Gradient Descent, arXiv:2501.01230")
def doge(
    deltas: Deltas,
    *,
    density: Share = 0.3,
    scale: Scale = 0.07,
    subspace: Annotated[int, Range(2)] = 6,
    steps: Annotated[int, Range(0)] = 400,
    learning_rate: Annotated[float, Range(0, 1, open="(")] = 1e-4,
) -> Merged:
    """theta_0 + sum_t lam_t · trim_t(ΔW_t + D), lam_t = eta / ‖ΔW_t‖, with one D for all tasks of a layer.

    D minimises sum_t ‖⟨ΔW_t, ΔW_t − sum_s lam_s (ΔW_s + D)⟩‖², where ⟨ ⟩ is the inner product of each row,
    by Adam from 0, whose gradients lose their part in a subspace that the tasks share. It is spanned by the
    int(min(n, m) / subspace) leading left singular vectors of [U_1 … U_T], for U_t those of the top
    int(min(n, m) / T) singular triplets of ΔW_t of n × m, none of them below the rounding of float32. Of
    directions that are shared equally, where the authors' code leaves the choice to rounding, those in which
    the ΔW_t are longer come first.

    trim_t keeps the entries that are among the int(K·d) largest magnitudes of tau_t in all these layers (the
    authors' code keeps one more). A task that leaves a matrix at theta_0 has no part in it. All tensors but
    linear layers' weights stay theta_0, as in the authors' code.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        density: K, the share of entries that each task vector keeps.
        scale: eta, the length of each task's lam_t ΔW_t in each layer; the default is the authors' for CLIP,
            and where layers change by more it is better chosen on validation scores.
        subspace: the part of a layer's min(n, m) dimensions that is taken as shared, as its divisor.
        steps: the number of Adam's steps; none leaves D at 0.
        learning_rate: about the most that an entry of D changes in a step.

    Cost: one pass over the T·d weights, and for each matrix n × m, T + 1 Gram matrices of side min(n, m) with
    their eigenvectors, and ``steps`` times two passes over T·n·m weights and two products with a matrix n ×
    min(n, m) / subspace.
    """
    linear = linear_weights(deltas)

    @cache
    def at_least() -> Tensor:
        return thresholds(deltas, [density] * len(deltas.experts), linear)

    def merge(name: str) -> Tensor:
        if name not in linear:
            return torch.zeros_like(deltas.base[name], dtype=torch.float32)
        stack = deltas[name]
        norms = stack.flatten(1).norm(dim=1)
        lam = torch.where(norms > 0, scale / norms, 0)
        side, count = min(stack.shape[1:]), int(norms.count_nonzero())
        leading = [top(delta, side // max(count, 1))[0] for delta in deltas.factors(name) or stack]
        U = shared(torch.cat(leading).T, side // subspace, stack)
        D = change(stack, lam, U, steps, learning_rate)
        merged = torch.zeros_like(D)
        for delta, own, least in zip(stack, lam, at_least().to(D.device), strict=True):
            kept = delta.abs().ge(least)
            merged.addcmul_(delta.add_(D), kept.mul(own))
        return merged

    return deltas.tensorwise(merge)


def shared(vectors: Tensor, k: int, stack: Tensor) -> Tensor:
    """The k leading left singular vectors of ``[n, c]``, or all that there are.

    Of those that tie, the ones in which the deltas ``[T, n, m]`` are longer.
    """
    U, sigma, _ = singular(vectors)
    if not 0 < k < len(sigma):
        return U[:, :k]
    cut = sigma[k - 1]
    first, tied = U[:, sigma > cut + TIED], U[:, (sigma - cut).abs() <= TIED]
    longest, _, _ = singular(torch.cat([tied.T @ delta for delta in stack], dim=1))
    return torch.cat([first, tied @ longest[:, : k - first.shape[1]]], dim=1)


def change(stack: Tensor, lam: Tensor, U: Tensor, steps: int, learning_rate: float) -> Tensor:
    """D ``[n, m]`` of the deltas ``[T, n, m]``.

    With L the sum of the lam_t, its gradient is −2 L sum_t (a_t − L ⟨ΔW_t, D⟩) ⊙ ΔW_t, where a_t is
    ⟨ΔW_t, ΔW_t − sum_s lam_s ΔW_s⟩.
    """
    D = torch.zeros_like(stack[0])
    merged, total = torch.tensordot(lam, stack, dims=1), float(lam.sum())
    fixed = [torch.linalg.vecdot(delta, delta) - torch.linalg.vecdot(delta, merged) for delta in stack]
    adam = torch.optim.Adam([D], lr=learning_rate)
    for _ in range(steps):
        gradient = torch.zeros_like(D)
        for delta, a in zip(stack, fixed, strict=True):
            gap = a - total * torch.linalg.vecdot(delta, D)
            gradient.addcmul_(delta, gap[:, None], value=-2 * total)
        D.grad = gradient.addmm_(U, U.T @ gradient, alpha=-1)
        adam.step()
    return D.detach()
