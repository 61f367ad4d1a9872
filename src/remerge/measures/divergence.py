"""Divergences between next-token distributions, in nats, from log-probabilities.

P is always the expert (the reference), Q the merged model (DivMerge, Section 3.2).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(P ‖ Q) of log-probabilities ``[..., V]``: ``[...]``, at least 0."""
    return (p.exp() * (p - q)).sum(dim=-1)


def reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(Q ‖ P): the merged model comes first."""
    return kl(q, p)


def js(p: Tensor, q: Tensor) -> Tensor:
    """JS(P ‖ Q) = ½ KL(P ‖ M) + ½ KL(Q ‖ M) with M = ½ (P + Q): in [0, ln 2]."""
    m = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (kl(p, m) + kl(q, m))


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": kl,
    "reverse_kl": reverse_kl,
    "js": js,
}
