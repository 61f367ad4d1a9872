"""How similar experts' weight deltas are: cosines of task vectors, CKA, sign agreement, pruned shares."""

import torch
from torch import Tensor


def cosines(gram: Tensor) -> Tensor:
    """cos(tau_s, tau_t) = <tau_s, tau_t> / (‖tau_s‖ ‖tau_t‖), DivMerge's Figure 6.

    ``gram`` contains their inner products, ``[T, T]``; NaN where a task vector is zero.
    """
    length = gram.diagonal().sqrt()
    return gram / length / length[:, None]


def cka(M: Tensor, S: Tensor) -> Tensor:
    """Linear CKA of the features Y_t = X M_t^T (Kornblith et al., 2019), for every pair, ``[T, T]``.

    ‖Y_s^T Y_t‖_F^2 / (‖Y_s^T Y_s‖_F ‖Y_t^T Y_t‖_F) of centred features; orthogonal maps and isotropic scaling
    of the features do not change it. They are never formed: ‖Y_s^T Y_t‖_F^2 = tr(P_s P_t), P_t = M_t^T M_t S.

    Args:
        M: the maps, ``[T, n, m]``; a map that is zero gives NaN.
        S: the scatter (X - mean)^T (X - mean) of the inputs X, ``[m, m]``.
    """
    P = (M.mT @ M) @ S
    return cosines(torch.einsum("sij,tji->st", P, P))


def sign_counts(stack: Tensor) -> Tensor:
    """The tally of signs over positions, for DRM's sign agreement (its Section 6.2 and Appendix F).

    Args:
        stack: each expert's entry at each position, ``[T, *shape]``; zero where it was pruned.

    Returns:
        int64 ``[T+1, T+1]``: at ``[p, q]`` the number of positions where p experts are positive and q
        negative.
    """
    count = len(stack) + 1
    positive, negative = (signs.sum(dim=0).flatten() for signs in (stack > 0, stack < 0))
    return torch.bincount(positive * count + negative, minlength=count * count).view(count, count)


def dropped(kept: Tensor) -> Tensor:
    """The share of entries dropped from each basis vector v_{t,i} (DRM, Figure 3), ``[T, r]``.

    ``kept`` is 1 at the entries that pruning keeps, else 0: ``[T, r, m]``, with the vectors as rows.
    """
    return 1 - kept.mean(dim=2)
