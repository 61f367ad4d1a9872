"""How alike experts' weight deltas are: cosines of task vectors, signs that agree, what pruning leaves."""

import torch
from torch import Tensor


def cosines(gram: Tensor) -> Tensor:
    """cos(tau_s, tau_t) = <tau_s, tau_t> / (‖tau_s‖ ‖tau_t‖), DivMerge's Figure 6.

    Of their inner products, ``[T, T]``; NaN where a task vector is zero.
    """
    length = gram.diagonal().sqrt()
    return gram / length / length[:, None]


def sign_counts(stack: Tensor) -> Tensor:
    """The tally of signs over positions, for DRM's sign agreement (its Section 6.2 and Appendix F).

    Args:
        stack: an entry of every expert at every position, ``[T, *shape]``; zero for what was pruned.

    Returns:
        int64 ``[T+1, T+1]``: at ``[p, q]`` the number of positions where p experts are positive and q
        negative.
    """
    count = len(stack) + 1
    positive, negative = (signs.sum(dim=0).flatten() for signs in (stack > 0, stack < 0))
    return torch.bincount(positive * count + negative, minlength=count * count).view(count, count)


def dropped(kept: Tensor) -> Tensor:
    """The share of entries dropped from each basis vector v_{t,i} (DRM, Figure 3), ``[T, r]``.

    ``kept`` is 1 at the entries that pruning keeps, else 0: ``[T, r, m]``, the vectors in its rows.
    """
    return 1 - kept.mean(dim=2)
