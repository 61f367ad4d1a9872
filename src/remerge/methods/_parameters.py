"""What a method's parameters may be, as its signature says it, and experts' weights and coefficients."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from remerge.errors import UserError


@dataclass(frozen=True)
class Range:
    """The numbers a parameter may be, ends included unless open."""

    low: float = -math.inf
    high: float = math.inf
    open: str = ""

    def __contains__(self, value: float) -> bool:
        above = value > self.low if "(" in self.open else value >= self.low
        return above and (value < self.high if ")" in self.open else value <= self.high)

    def __str__(self) -> str:
        left, right = "(" if "(" in self.open else "[", ")" if ")" in self.open else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


Share = Annotated[float, Range(0, 1, open="(")]
"""A share of entries, (0, 1]."""

Weights = Sequence[Annotated[float, Range(0, 1)]]
"""One weight per expert; they are divided by their sum."""

Scale = Annotated[float, Range(-100, 100)]
"""A coefficient on task vectors; negative ones unlearn."""

Scope = Literal["model", "tensor"]
"""Over what a share is taken: the whole task vector, or each tensor by itself."""

Level = Literal["task", "layer"]
"""One coefficient for each expert, or for each expert and layer."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as its signature gives it."""

    name: str
    type: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def values(self) -> str:
        """What it may be, in words."""
        options = []
        for option in _options(self.type):
            ranges = [str(r) for r in getattr(option, "__metadata__", ()) if isinstance(r, Range)]
            kind = get_args(option)[0] if get_origin(option) is Annotated else option
            if get_origin(kind) is Literal:
                options.append(" | ".join(map(str, get_args(kind))))
            elif get_origin(kind) is Mapping:
                options.append("for each layer, one per expert")
            elif get_origin(kind) is Sequence:
                options.append("one per expert")
            elif kind is bool:
                options.append("True | False")
            elif kind is type(None):
                options.append("none")
            else:
                options.append(" in ".join([getattr(kind, "__name__", str(kind)), *ranges]))
        return " or ".join(options)

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` has the type and lies in the range."""
        return any(_fits(option, value) for option in _options(self.type))


def normalised(weights: Sequence[float] | None, count: int, what: str) -> list[float]:
    """Weights for ``count`` experts that sum to 1; None stands for 1/T each.

    Raises:
        UserError: a list of another length, or of zeros.
    """
    w = per_expert(weights, count, what)
    if not sum(w) > 0:
        raise UserError(f"{what}: all are zero")
    return [v / sum(w) for v in w]


def per_expert(value: float | Sequence[float] | None, count: int, what: str) -> list[float]:
    """A number for each of ``count`` experts; None stands for 1/T each.

    Raises:
        UserError: a list of another length.
    """
    if value is None:
        return [1 / count] * count
    if isinstance(value, int | float):
        return [float(value)] * count
    if len(value) != count:
        raise UserError(f"{what}: {len(value)} numbers for {count} experts")
    return [float(v) for v in value]


def _options(kind: Any) -> tuple[Any, ...]:
    union = get_origin(kind) is Union or type(kind).__name__ == "UnionType"
    return get_args(kind) if union else (kind,)


def _fits(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        return _fits(kind, value) and all(value in m for m in marks if isinstance(m, Range))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Mapping:
        key, item = get_args(kind)
        return isinstance(value, Mapping) and all(_fits(key, k) and _fits(item, v) for k, v in value.items())
    if get_origin(kind) is Sequence:
        (item,) = get_args(kind)
        return isinstance(value, list | tuple) and all(_fits(item, v) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind is type(None) else isinstance(value, kind)
