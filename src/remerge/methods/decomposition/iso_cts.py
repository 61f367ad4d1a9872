"""Iso-CTS: a common subspace and one of each task, with all singular values made equal."""

from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, LowRank, Merged, Value
from remerge.methods import Range, Scale, method
from remerge.methods.decomposition._basis import (
    averaged,
    linear_weights,
    nearest_orthogonal,
    rounding,
    singular,
    stacked,
    summed,
    top,
)


@method(label="Iso-CTS", citation="Marczak et al., 2025, No Task Left Behind, arXiv:2502.04959")
def iso_cts(deltas: Deltas, *, common: Annotated[float, Range(0, 1)] = 0.8, scale: Scale = 1.0) -> Merged:
    """theta_0 + lam · mean(Sigma) · U⊥ V⊥^T, of top triplets of sum_t ΔW_t and of each ΔW_t beyond them.

    Of the r singular triplets of the sum, the first are common, and the rest are replaced, in equal numbers
    for each task, by the top triplets of (I − U_c U_c^T) ΔW_t, where U_c are the common left vectors. Sigma
    has the singular values of all of these; U⊥ and V⊥ are the polar factors of their vectors. r counts the
    singular values that are not zero in float32, as in Iso-C; of full rank it is min(n, m), as in the
    paper. All tensors but linear layers' weights: theta_0 + the mean of the tau_t.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        common: the share of triplets that are common; it is rounded so that the tasks share the rest equally.
        scale: lam (the paper's alpha), for linear layers.

    Cost: for each matrix n × m, T + 3 Gram matrices of side min(n, m) and their eigenvectors.
    """
    linear = set(linear_weights(deltas))
    T = len(deltas.experts)
    mean = averaged(deltas)

    def merge(name: str) -> Value:
        if name not in linear:
            return mean(name)
        stack = stacked(deltas, name)
        U, sigma, Vt = singular(summed(stack))
        r = len(sigma)
        own = min(round((r - int(common * r)) / T), r // T)
        shared = r - own * T
        U_c = U[:, :shared]
        # What rounding leaves of a ΔW_t that is within the common subspace is no direction of its own.
        least = rounding(max(U.shape[0], Vt.shape[1])) * float(sigma[:1].sum())
        triplets = [(U_c.T, sigma[:shared], Vt[:shared])]
        triplets += [top(beyond(delta, U_c), own, least) for delta in stack]
        rows, sigma, Vt = (torch.cat(parts) for parts in zip(*triplets, strict=True))
        return LowRank(nearest_orthogonal(rows).T * (scale * sigma.mean()), nearest_orthogonal(Vt))

    return deltas.tensorwise(merge)


def beyond(delta: Tensor | LowRank, U: Tensor) -> Tensor | LowRank:
    """A delta without its part in the span of the columns of U."""
    if isinstance(delta, Tensor):
        return delta - U @ (U.T @ delta)
    B = delta.B.float()
    return LowRank(B - U @ (U.T @ B), delta.A, delta.scaling)
