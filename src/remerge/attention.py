"""Attention whose gradients are repeatable on a GPU.

The fused kernels of its backward pass add up in any order, so that two trainings differ in rounding. They
have a repeatable way, too, which PyTorch takes only where it fails on every operation that has none. In a
whole step, some may have none; so it does while attention is computed, and warns of others.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_attention = functional.scaled_dot_product_attention


def make_repeatable() -> None:
    """Let the gradients of this process's attention be repeatable."""
    functional.scaled_dot_product_attention = _repeatable


@wraps(_attention)
def _repeatable(query: Tensor, key: Tensor, value: Tensor, *more: Any, **named: Any) -> Tensor:
    if not query.is_cuda:
        return _attention(query, key, value, *more, **named)
    # Of the kernels, one is left out here that has no repeatable way.
    _fail()
    try:
        made = _attention(query, key, value, *more, **named)
    finally:
        _warn()
    if made.requires_grad:
        _before(made, _fail)
        for tensor in (query, key, value):
            if tensor.requires_grad:
                _before(tensor, _warn)
    return made


def _before(tensor: Tensor, then: Callable[[Tensor], None]) -> None:
    """Call ``then`` when a backward pass has made the tensor's gradient, and before it goes on."""
    tensor.register_hook(then)  # type: ignore[no-untyped-call]


def _fail(*_: Tensor) -> None:
    torch.set_deterministic_debug_mode("error")


def _warn(*_: Tensor) -> None:
    torch.set_deterministic_debug_mode("warn")
