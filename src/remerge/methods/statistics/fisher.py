"""Fisher merging: the mean of the experts weighted by each parameter's Fisher information."""

from collections.abc import Mapping
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
) -> Merged:
    """sum_t w_t (F_t + eps) theta_t / sum_t w_t (F_t + eps), entry by entry.

    Where no expert has any information, the experts are averaged.

    Args:
        deltas: the task vectors tau_t.
        statistics: for each expert, F_t by tensor: the mean squared gradient of its own log-likelihood
            (`remerge.measures.curvature.fisher`). A tensor without any is averaged.
        weights: w_t, divided by their sum; 1/T each if not given.
        epsilon: eps, added to F_t.

    Raises:
        UserError: an expert's statistics are missing, not finite, or of another shape.

    Cost: one pass over the 2·T·d weights and statistics.
    """
    w = torch.tensor(normalised(weights, deltas.experts, "fisher: weights"))[:, None]
    F = given("fisher", deltas, statistics, lambda theta: theta.shape)

    def merge(tau: Tensor, name: str, where: slice) -> Tensor:
        c, at = w.to(tau.device).expand_as(tau), F[name]
        if at is not None:
            informed = c * (torch.stack([f.reshape(-1)[where].float() for f in at]) + epsilon)
            c = torch.where(informed.sum(dim=0) > 0, informed, c)
        return (c * tau).sum(dim=0) / c.sum(dim=0)

    return deltas.entrywise(merge)
