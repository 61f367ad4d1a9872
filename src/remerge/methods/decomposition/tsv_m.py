"""TSV-M: the top singular vectors of every task, made orthogonal to each other."""

import torch

from remerge.deltas import Combined, Deltas, LowRank
from remerge.methods import Scales, method, per_expert
from remerge.methods.decomposition._basis import linear_weights, nearest_orthogonal, stacked, top


@method(label="TSV-M", citation="Gargiulo et al., 2025, Task Singular Vectors, arXiv:2412.00081")
def tsv_m(deltas: Deltas, *, scale: Scales = 1.0) -> Combined:
    """theta_0 + sum_t lam_t · U⊥_t Sigma_t V⊥_t^T, with U⊥ = [U⊥_1 … U⊥_T] and V⊥ of all tasks.

    U⊥ and V⊥ are the polar factors of U = [U_1 … U_T] and V of the top 1/T singular triplets of each ΔW_t,
    the nearest matrices with orthonormal columns. For n × m, the top int(min(n, m) / T) triplets of each task
    are kept, at least one, and none below the rounding of float32, whose directions would be noise. All
    tensors but linear layers' weights become sum_t lam_t tau_t / T, as the authors' code scales the whole
    merged vector.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        scale: lam, one for all experts, one for each, or by their names.

    Cost: for each matrix, T Gram matrices of side min(n, m) with their eigenvectors, and two more.
    """
    linear = set(linear_weights(deltas))

    def form(name: str) -> LowRank | None:
        if name not in linear:
            return None
        stack = stacked(deltas, name)
        kept = max(1, min(stack[0].shape) // len(stack))
        triplets = [top(delta, kept) for delta in stack]
        U, sigma, Vt = (torch.cat(parts) for parts in zip(*triplets, strict=True))
        # One row per task: 1 at its own triplets.
        own = torch.block_diag(*(torch.ones_like(s[None]) for _, s, _ in triplets))  # type: ignore[no-untyped-call]
        return LowRank(nearest_orthogonal(U.T), (own * sigma)[:, :, None] * nearest_orthogonal(Vt))

    count = len(deltas.experts)
    prepared = deltas.map(lambda tau, name, where: tau.div_(count)).replace(form)
    return prepared.combine(per_expert(scale, deltas.experts, "tsv_m: scale"))
