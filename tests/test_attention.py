"""Attention that is repeatable on a GPU: it alone fails where it has no repeatable kernel."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from remerge import attention


class OnGpu(Tensor):
    """A tensor that takes a CPU for a GPU."""

    is_cuda = True  # type: ignore[assignment]


class Told(torch.autograd.Function):
    """Nothing, which notes what PyTorch does about operations that are not repeatable."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, name: str, modes: dict[str, int]) -> Tensor:
        """Note it on the way there."""
        ctx.name, ctx.modes = name, modes
        modes[name] = torch.get_deterministic_debug_mode()
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """Note it on the way back."""
        ctx.modes[f"{ctx.name}, back"] = torch.get_deterministic_debug_mode()
        return gradient, None, None


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """What PyTorch does in attention, and elsewhere, by place: 1 is a warning, 2 an error."""
    found: dict[str, int] = {}
    plain = attention._attention

    def noted(query: Tensor, key: Tensor, value: Tensor, **named: Any) -> Tensor:
        made: Tensor = plain(Told.apply(query, "attention", found), key, value, **named)  # type: ignore[no-untyped-call]
        return made

    monkeypatch.setattr(attention, "_attention", noted)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", plain)
    torch.set_deterministic_debug_mode("warn")
    yield found
    torch.set_deterministic_debug_mode("default")


def gradients(attend: Any, kind: type[Tensor], found: dict[str, int]) -> list[Tensor]:
    """Those of two layers' projections."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, 8, generator=generator).as_subclass(kind)
    weights = [torch.randn(8, 8, generator=generator).requires_grad_() for _ in range(4)]
    for first in (True, False):
        query, key, value = (x @ weight for weight in weights[:3])
        x = attend(query, key, value, is_causal=True) @ weights[3]
        x = Told.apply(x, f"after {first}", found).as_subclass(kind)  # type: ignore[no-untyped-call]
    return list(torch.autograd.grad(x.square().sum(), weights))


def test_only_attention_fails_where_it_is_not_repeatable(modes: dict[str, int]) -> None:
    plain = gradients(functional.scaled_dot_product_attention, Tensor, {})
    attention.make_repeatable()
    ours = gradients(functional.scaled_dot_product_attention, OnGpu, modes)
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))
    assert modes == {
        "attention": 2,
        "after True": 1,
        "after False": 1,
        "after False, back": 1,
        "attention, back": 2,
        "after True, back": 1,
    }
    assert torch.get_deterministic_debug_mode() == 1


def test_a_cpu_needs_none_of_it(modes: dict[str, int]) -> None:
    attention.make_repeatable()
    gradients(functional.scaled_dot_product_attention, Tensor, modes)
    assert {*modes.values()} == {1}


def test_what_cannot_be_repeated_leaves_the_process_as_it_was(modes: dict[str, int]) -> None:
    attention.make_repeatable()
    with pytest.raises(RuntimeError):
        functional.scaled_dot_product_attention(torch.ones(1, 2).as_subclass(OnGpu), *torch.ones(2, 3, 4))
    assert torch.get_deterministic_debug_mode() == 1
