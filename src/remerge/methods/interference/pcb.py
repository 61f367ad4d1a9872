"""PCB-Merging: weigh each entry by its size in its own task vector and its agreement with the others."""

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from remerge.deltas import Combined, Deltas
from remerge.methods import Scales, Share, method, per_expert
from remerge.methods.interference._interference import TINY
from remerge.methods.interference._select import kth_largest

OUTLIERS = 1e-4
"""The share of the smallest, and of the largest, magnitudes of a task vector that are clamped."""


@method(label="PCB-Merging", citation="Du et al., 2024, arXiv:2410.02396")
def pcb(deltas: Deltas, *, density: Share = 0.1, scale: Scales = 1.0) -> Combined:
    """theta_0 + sum_t lam_t beta_t ⊙ tau'_t / sum_t beta_t, with a weight beta_t for each entry.

    tau'_t is tau_t with its smallest and its largest magnitudes clamped, 0.01% each. The balance of an entry
    is exp(T · nor(|tau'_t|)²) · tanh(tau_t ⊙ sum_s tau_s): how large it is in its own task vector
    (intra-balancing), and how far it agrees with the sum of all (inter-balancing). The largest share of a
    task's balances is kept, and beta_t = nor of them. nor maps a task's values to [0, 1]; the smallest kept
    and all that is dropped become 0. An entry that all tasks drop goes back to theta_0. Shares are of whole
    task vectors. All this is as in the authors' code.

    Args:
        deltas: the task vectors tau_t.
        density: the share of entries that are kept (the paper's r).
        scale: lam, one for all experts, one for each, or by their names.

    Cost: five passes over the T·d weights, and one more for a task of which no such share agrees.
    """
    T, d = len(deltas.experts), sum(theta.numel() for theta in deltas.base.values())

    @cache
    def magnitudes() -> tuple[Tensor, Tensor]:
        least, most = int(d * OUTLIERS), int(d * (1 - OUTLIERS) - 1)
        return ranked(deltas, torch.abs, d - least), ranked(deltas, torch.abs, d - most)

    def balance(tau: Tensor) -> Tensor:
        intra = nor(tau.abs(), *magnitudes()).square_().mul_(T).exp_()
        return intra.mul_(torch.tanh(tau * tau.sum(dim=0)))

    @cache
    def balances() -> tuple[Tensor, Tensor]:
        return ranked(deltas, balance, max(1, d - int(d * (1 - density)))), ranked(deltas, balance, 1)

    def weigh(tau: Tensor, name: str, where: slice) -> Tensor:
        beta = nor(balance(tau), *balances())
        least, most = (bound.to(tau.device) for bound in magnitudes())
        clamped = tau.sign() * tau.abs().clamp_(least, most)
        return clamped.mul_(beta).div_(beta.sum(dim=0).clamp_min_(TINY))

    return deltas.map(weigh).combine(per_expert(scale, deltas.experts, "pcb: scale"))


def nor(values: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Values ``[T, n]``, clamped to the bounds ``[T, 1]`` of each task, and mapped to [0, 1]."""
    least, most = least.to(values.device), most.to(values.device)
    return values.clamp(least, most).sub_(least).div_((most - least).clamp_min_(TINY))


def ranked(deltas: Deltas, score: Callable[[Tensor], Tensor], k: int) -> Tensor:
    """The k-th largest, of each expert, of the scores of all entries, ``[T, 1]``."""
    d = sum(theta.numel() for theta in deltas.base.values())

    def above_zero(sign: float, rank: int) -> Tensor:
        def part(tau: Tensor) -> Tensor:
            return (score(tau) * sign).clamp_min_(0)

        def stream() -> Iterator[Tensor]:
            return (part(tau) for name in deltas for _, tau in deltas.pieces(name))

        return kth_largest(stream, lambda: part(deltas.sample(list(deltas))), rank, d)

    found = above_zero(1, k)
    if not bool(found.all()):
        found = torch.where(found > 0, found, -above_zero(-1, d - k + 1))
    return found[:, None]
