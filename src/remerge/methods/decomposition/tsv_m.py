"""TSV-M: the top singular vectors of every task, made orthogonal to each other."""

import torch
from torch import Tensor

from remerge.deltas import Deltas, LowRank, Merged
from remerge.methods import Scale, method
from remerge.methods.decomposition._basis import linear_weights, nearest_orthogonal, singular, stacked


@method(label="TSV-M", citation="Gargiulo et al., 2025, Task Singular Vectors, arXiv:2412.00081")
def tsv_m(deltas: Deltas, *, scale: Scale = 1.0) -> Merged:
    """theta_0 + lam · U⊥ Sigma V⊥^T, U = [U_1 … U_T] and V of the top 1/T singular triplets of each ΔW_t.

    U⊥ and V⊥ are the polar factors of U and V, the nearest matrices with orthonormal columns. Of n × m the
    top int(min(n, m) / T) triplets of each task are kept, at least one, and none below the rounding of
    float32, whose directions would be noise. All that is no linear layer's weight: theta_0 + the mean of the
    tau_t.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        scale: lam, on linear layers.

    Cost: for a matrix T Gram matrices of side min(n, m) and their eigenvectors, and two more.
    """
    linear = set(linear_weights(deltas))
    mean = deltas.combine([1 / len(deltas.experts)] * len(deltas.experts))

    def merge(name: str) -> Tensor:
        if name not in linear:
            return mean.delta(name)
        stack = stacked(deltas, name)
        kept = max(1, min(stack[0].shape) // len(stack))
        top = [_top(delta, kept) for delta in stack]
        U, sigma, Vt = (torch.cat(parts) for parts in zip(*top, strict=True))
        return (nearest_orthogonal(U.T) * (scale * sigma)) @ nearest_orthogonal(Vt)

    return deltas.tensorwise(merge)


def _top(delta: Tensor | LowRank, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Copies of the top singular triplets, the vectors in rows: the others are not held."""
    U, sigma, Vt = singular(delta)
    return U.T[:kept].clone(), sigma[:kept], Vt[:kept].clone()
