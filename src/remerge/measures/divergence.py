"""Divergences between next-token distributions, in nats, from log-probabilities.

P is always the expert (the reference), Q the merged model (DivMerge, Section 3.2).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def mean_under(p: Tensor, values: Tensor) -> Tensor:
    """The mean of values under P, of log-probabilities ``[..., V]``: ``[...]``.

    A word that P never says adds nothing, whatever its value: some models mask words by logits of -inf.
    """
    mass = p.exp()
    return (mass * values.masked_fill(mass == 0, 0)).sum(dim=-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(P ‖ Q) of log-probabilities ``[..., V]``: ``[...]``, at least 0.

    It is infinite where Q never says a word that P may say.
    """
    return mean_under(p, p - q)


def reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(Q ‖ P): the merged model comes first."""
    return kl(q, p)


def js(p: Tensor, q: Tensor) -> Tensor:
    """JS(P ‖ Q) = ½ KL(P ‖ M) + ½ KL(Q ‖ M) with M = ½ (P + Q): in [0, ln 2]."""
    # The logarithm of 0 + 0 has no gradient; finite logarithms of 0 have, and add nothing to the sum.
    p, q = (x.clamp(min=torch.finfo(x.dtype).min / 4) for x in (p, q))
    m = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (p.exp() * (p - m) + q.exp() * (q - m)).sum(dim=-1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": kl,
    "reverse_kl": reverse_kl,
    "js": js,
}
