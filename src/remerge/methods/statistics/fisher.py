"""Fisher merging: the mean of the experts weighted by each parameter's Fisher information."""

from collections.abc import Iterable, Mapping
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Needs, Range, Weights, method, normalised
from remerge.methods.statistics._given import given


@method(
    label="Fisher", citation="Matena and Raffel, 2022, arXiv:2111.09832", needs=Needs(statistics="fisher")
)
def fisher(
    deltas: Deltas,
    *,
    statistics: Mapping[str, State],
    weights: Weights | None = None,
    epsilon: Annotated[float, Range(0, 1)] = 1e-6,
    normalise: bool = False,
) -> Merged:
    """sum_t w_t (F_t + eps) theta_t / sum_t w_t (F_t + eps), entry by entry.

    Where no expert has any information, the experts are averaged. An expert that is surer of its answers has
    less information, and less weight; with ``normalise``, w_t is divided by ‖F_t‖ + eps, as MergeLM and
    FusionBench do.

    Args:
        deltas: the task vectors tau_t.
        statistics: for each expert, F_t by tensor: the mean squared gradient of its own log-likelihood
            (`remerge.measures.curvature.fisher`). A tensor without any is averaged.
        weights: w_t, divided by their sum; 1/T each if not given.
        epsilon: eps, added to F_t.
        normalise: whether the F_t count as if they were equally long, over all tensors.

    Raises:
        UserError: an expert's statistics are missing, not finite, or of another shape.

    Cost: one pass over the 2·T·d weights and statistics.
    """
    w = torch.tensor(normalised(weights, deltas.experts, "fisher: weights"))[:, None]
    F = given("fisher", deltas, statistics, lambda theta: theta.shape)
    if normalise:
        w = w / (_lengths(len(w), (F[name] for name in deltas)) + epsilon)[:, None]
        w /= w.sum()

    def merge(tau: Tensor, name: str, where: slice) -> Tensor:
        c, at = w.to(tau.device).expand_as(tau), F[name]
        if at is not None:
            informed = c * (torch.stack([f.reshape(-1)[where].float() for f in at]) + epsilon)
            c = torch.where(informed.sum(dim=0) > 0, informed, c)
        return (c * tau).sum(dim=0) / c.sum(dim=0)

    return deltas.entrywise(merge)


def _lengths(count: int, F: Iterable[list[Tensor] | None]) -> Tensor:
    """‖F_t‖ over all tensors, above 0, float32 ``[T]``."""
    squares = torch.zeros(count, dtype=torch.float64)
    for at in filter(None, F):
        squares += torch.stack([f.float().norm().double().square() for f in at]).cpu()
    return squares.sqrt().float().clamp_min(torch.finfo(torch.float32).tiny)
