"""SCE: select entries that differ between experts, calculate weights, erase the minority's signs."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.methods import Recipe, Scales, Share, method, per_expert
from remerge.methods.interference._interference import TINY
from remerge.methods.interference._select import kth_largest


def recipe(experts: Sequence[str], *, density: float, scale: Scales, authors: bool) -> Recipe | None:
    """mergekit's sce, which is the authors' code; of variances that tie with the last it keeps some."""
    unscaled = set(per_expert(scale, experts, "sce: scale")) == {1.0}
    return Recipe("sce", parameters={"select_topk": density}) if authors and unscaled else None


@method(label="SCE", citation="Wan et al., 2024, FuseChat, arXiv:2408.07990", mergekit=recipe)
def sce(deltas: Deltas, *, density: Share = 0.1, scale: Scales = 1.0, authors: bool = False) -> Combined:
    """theta_0 + lam · sum_t eta_t m_t ⊙ tau'_t / sum_t eta_t m_t, m_t the entries with the elected sign.

    For each tensor separately. Select: tau'_t keeps the int(K·n) entries (at least one) whose variance over
    the experts is largest, of the n where it is not zero, and any that tie with the last of them; if K is 1
    or n is 0, it keeps all. Calculate: eta_t is the share of ‖tau'_t‖² in the sum over experts. Erase: the
    elected sign is that of sum_t tau'_t; an exact zero elects plus. The authors' code also leaves a tensor at
    theta_0 where K is below 1 and int(K·n) is 0, and makes all eta_t equal where the mean squares of the
    entries of all tau'_t sum to less than 1e-6, as those of fine-tuned models may.

    Args:
        deltas: the task vectors tau_t.
        density: K, the share of entries that is selected.
        scale: lam, one for all experts, one for each, or by their names.
        authors: whether to do so, too.

    Cost: four passes over the T·d weights; of one expert, three; with K = 1, two.
    """

    @cache
    def least_variance(name: str) -> Tensor:
        varies = sum(int(variance(tau).count_nonzero()) for _, tau in deltas.pieces(name))
        count = int(density * varies)
        if authors and count == 0:
            return torch.tensor([math.inf])
        return kth_largest(
            lambda: (variance(tau)[None] for _, tau in deltas.pieces(name)),
            lambda: variance(deltas.sample([name]))[None],
            max(1, count),
            deltas.base[name].numel(),
        )

    def select(tau: Tensor, name: str) -> Tensor:
        return tau if density == 1 else tau.mul_(variance(tau) >= least_variance(name).to(tau.device))

    @cache
    def eta(name: str) -> Tensor:
        squares = torch.zeros(len(deltas.experts), 1, dtype=torch.float64)
        for _, tau in deltas.pieces(name):
            squares += select(tau, name).double().square().sum(dim=1, keepdim=True).cpu()
        if authors and squares.sum() < 1e-6 * deltas.base[name].numel():
            squares = torch.ones_like(squares)
        return (squares / squares.sum().clamp_min(TINY)).float()

    def erase(tau: Tensor, name: str, where: slice) -> Tensor:
        tau = select(tau, name)
        sign = tau.sum(dim=0).ge(0).float().mul_(2).sub_(1)
        weight = eta(name).to(tau.device) * (tau * sign).gt(0)
        return tau.mul_(weight).div_(weight.sum(dim=0).clamp_min(TINY))

    return deltas.map(erase).combine(per_expert(scale, deltas.experts, "sce: scale"))


def variance(tau: Tensor) -> Tensor:
    """The variance over the experts of each entry of ``[T, n]``: exactly 0 where all are equal."""
    mean = tau[0] + (tau - tau[0]).mean(dim=0)
    return (tau - mean).square_().mean(dim=0)
