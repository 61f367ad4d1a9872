"""RegMean: for each linear layer, the weight that best reproduces the experts' outputs on their inputs."""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Needs, Range, Weights, method, normalised
from remerge.methods.statistics._given import given

RIDGE = 1e-10
"""A ridge relative to the mean diagonal: input features that no expert ever saw are averaged."""


@method(label="RegMean", citation="Jin et al., 2023, arXiv:2212.09849", needs=Needs(statistics="grams"))
def regmean(
    deltas: Deltas,
    *,
    statistics: Mapping[str, State],
    weights: Weights | None = None,
    shrink: Annotated[float, Range(0, 1)] = 0.9,
) -> Merged:
    """W = (sum_t w_t G_t)^-1 sum_t w_t G_t W_t for linear layers, G_t = X_t^T X_t; the rest averaged by w_t.

    W maps inputs to outputs here, the transpose of a torch weight.

    Args:
        deltas: the task vectors tau_t.
        statistics: for each expert, the Gram matrices ``[in, in]`` of its layers' inputs, under the weights'
            names (`remerge.measures.curvature.grams`).
        weights: w_t, divided by their sum; 1/T each if not given.
        shrink: the factor on off-diagonal entries of the G_t.

    Raises:
        UserError: an expert's statistics are missing, not finite, or of another shape.

    Cost: for each layer n × m, one linear system of side m and T products m × m × n, in float64.
    """
    w = normalised(weights, deltas.experts, "regmean: weights")
    G = given("regmean", deltas, statistics, lambda theta: torch.Size(2 * theta.shape[-1:]))
    mean = deltas.combine(w)

    def merge(name: str) -> Tensor:
        grams = G[name]
        if grams is None:
            return mean.delta(name)
        ridge = RIDGE * torch.stack([gram.diagonal().double().mean() for gram in grams]).mean()
        if ridge == 0:
            return mean.delta(name)  # no expert has ever used this layer
        terms = []
        for w_t, gram, tau in zip(w, grams, deltas[name], strict=True):
            G_t = (gram.double() * shrink).diagonal_scatter(gram.diagonal().double() + ridge)
            terms.append((w_t * G_t, w_t * G_t @ tau.double().T))
        left, right = (torch.stack(parts).sum(dim=0) for parts in zip(*terms, strict=True))
        W: Tensor = torch.linalg.solve(left, right)
        return W.T.float()

    return deltas.tensorwise(merge)
