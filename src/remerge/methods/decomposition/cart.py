"""CART: the mean of the experts, and of each expert the leading singular triplets of its distance from it."""

import torch

from remerge.deltas import Deltas, LowRank, Merged, Value
from remerge.methods import Scales, Share, method, per_expert
from remerge.methods.decomposition._basis import averaged, linear_weights, singular, stacked, top


@method(label="CART", citation="Choi et al., 2024, Revisiting Weight Averaging, arXiv:2412.12153")
def cart(deltas: Deltas, *, rank: Share = 0.08, scale: Scales = 1.0) -> Merged:
    """theta_avg + sum_t lam_t · SVD_k(theta_t − theta_avg), theta_avg the mean of the experts.

    SVD_k keeps the top k = int(rank·min(n, m)) singular triplets of an n × m matrix, at least one. Of all k,
    nothing is left: the distances from a mean sum to zero. All tensors but linear layers' weights: theta_avg.

    Args:
        deltas: the task vectors.
        rank: the share of singular triplets that is kept of each linear layer.
        scale: lam, one for all experts, one for each, or by their names.

    Cost: for each matrix, T Gram matrices of side min(n, m) with their eigenvectors.
    """
    lam = per_expert(scale, deltas.experts, "cart: scale")
    linear = set(linear_weights(deltas))
    mean = averaged(deltas)

    def merge(name: str) -> Value:
        if name not in linear:
            return mean(name)
        kept = max(1, int(rank * min(deltas.base[name].shape)))
        triplets = [top(delta, kept) for delta in _centred(stacked(deltas, name))]
        B = torch.cat([U.T * (sigma * w) for (U, sigma, _), w in zip(triplets, lam, strict=True)], dim=1)
        A = torch.cat([Vt for _, _, Vt in triplets])
        average = mean(name)
        if isinstance(average, LowRank):
            both = LowRank(torch.cat([average.B, B], dim=1), torch.cat([average.A, A]))
            U, sigma, Vt = singular(both)  # of the adapters' own rank
            return LowRank(U * sigma, Vt)
        return average.addmm_(B, A)

    return deltas.tensorwise(merge)


def _centred(stack: torch.Tensor | list[LowRank]) -> torch.Tensor | list[LowRank]:
    """The deltas minus their mean."""
    if isinstance(stack, torch.Tensor):
        return stack.sub_(stack.mean(dim=0))
    count = len(stack)
    A = torch.cat([delta.A.float() for delta in stack])
    made = []
    for t in range(count):
        weights = [(t == s) - 1 / count for s in range(count)]
        B = [delta.B.float() * (delta.scaling * w) for delta, w in zip(stack, weights, strict=True)]
        made.append(LowRank(torch.cat(B, dim=1), A))
    return made
