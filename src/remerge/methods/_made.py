"""What the function of a method makes, which may be anyone's, is refused where it would be misread."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from remerge.deltas import Combined, Deltas, Merged, Tensors, finite
from remerge.deltas.merged import Pieces, must_have
from remerge.errors import UserError

PROBE = 0.75
"""A scale that shows whether coefficients are just the scale: its powers and shares are other numbers."""


def whole(method: str, deltas: Deltas, made: Merged) -> Merged:
    """The merged deltas.

    Raises:
        UserError: they are not one for each name, in order and of the same shape, or one is not finite; if
            they are yielded, only when they are read.
    """
    if not isinstance(made, Pieces | Tensors):
        if not isinstance(made, Iterable) or isinstance(made, Mapping | Tensor):
            raise _astray(method, f"it returns a {type(made).__name__}, not pairs of name and delta")
        return _yielded(method, deltas, made)
    if lacks := [name for name in deltas.base if name not in made.deltas.base]:
        raise _astray(method, f"no delta for {lacks[0]}")
    return made


def scaled(method: str, made: Any, scale: float) -> Deltas:
    """The vectors tau'_t of a merged delta sum_t scale tau'_t.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(made, Combined) or any({*lam} != {scale} for lam in made.lam.values()):
        raise UserError(
            f"method {method}: its coefficients are not just its scale, as a function says that returns "
            "Combined: let it return Merged, or put the rest into the vectors, by deltas.map"
        )
    return made.deltas


def losses(method: str, objective: Callable[[Tensor, Tensor], Any], expert: Tensor, merged: Tensor) -> Tensor:
    """The losses of an objective, ``[N]``.

    Raises:
        UserError: they are not one for each position, or have no gradient. No more is asked here: a GPU may
            be recording the step.
    """
    found = objective(expert, merged)
    if not isinstance(found, Tensor) or found.shape != merged.shape[:1]:
        made = [*found.shape] if isinstance(found, Tensor) else f"of the type {type(found).__name__}"
        raise UserError(
            f"method {method}: its losses are {made}, not {[len(merged)]}: give one for each position"
        )
    if merged.requires_grad and not found.requires_grad:
        raise UserError(
            f"method {method}: its losses have no gradient: compute them from merged, without detach or item"
        )
    return found


def _yielded(method: str, deltas: Deltas, made: Iterable[Any]) -> Merged:
    names = iter(deltas)
    for pair in made:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise _astray(method, f"it yields a {type(pair).__name__}, not a pair of name and delta")
        name, delta = pair
        if name != (due := next(names, None)):
            expected = f"one for {due}" if due else "none"
            raise _astray(method, f"a delta for {name} where {expected} is next")
        delta = must_have(name, delta, deltas.base[name].shape)
        if not finite(delta):
            raise deltas.blame(name)
        yield name, delta
    if due := next(names, None):
        raise _astray(method, f"no delta for {due}")


def _astray(method: str, what: str) -> UserError:
    return UserError(f"method {method}: {what}: give one for each name in deltas, in their order")
