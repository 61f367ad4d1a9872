"""The types and ranges of a method's parameters, from its signature; experts' weights and coefficients."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from remerge.errors import UserError


@dataclass(frozen=True)
class Range:
    """The values that a parameter may have; the ends are included unless open."""

    low: float = -math.inf
    high: float = math.inf
    open: str = ""

    def __contains__(self, value: float) -> bool:
        above = value > self.low if "(" in self.open else value >= self.low
        return above and (value < self.high if ")" in self.open else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"from {self.low:g}"
        left, right = "(" if "(" in self.open else "[", ")" if ")" in self.open else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


Share = Annotated[float, Range(0, 1, open="(")]
"""A share of entries, (0, 1]."""

# Numbers of examples, too; their sum is finite.
Weight = Annotated[float, Range(0, 1e9)]

Weights = Sequence[Weight] | Mapping[str, Weight]
"""One weight per expert, in their order or by their names; they are divided by their sum."""

Factor = Annotated[float, Range(-1e9, 1e9)]

Factors = Factor | Sequence[Factor] | Mapping[str, Factor]
"""A factor for all experts, or one for each, in their order or by their names."""

Scale = Annotated[float, Range(-100, 100)]
"""A coefficient on task vectors; negative ones unlearn."""

Scales = Scale | Sequence[Scale] | Mapping[str, Scale]
"""A coefficient for all experts, or one for each, in their order or by their names."""

Shares = Share | Sequence[Share] | Mapping[str, Share]
"""A share for all experts, or one for each, in their order or by their names."""

Scope = Literal["model", "tensor"]
"""What a share refers to: the whole task vector, or each tensor separately."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, from its signature."""

    name: str
    type: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def values(self) -> str:
        """Its type and range, in words."""
        return _words(self.type)

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` has the type and is in the range."""
        return any(_fits(option, value) for option in _options(self.type))


def parameters_of(described: Callable[..., Any]) -> dict[str, Parameter]:
    """The keyword-only arguments of a function or class, by name."""
    hints = get_type_hints(described, include_extras=True)
    return {
        p.name: Parameter(p.name, hints[p.name], p.default)
        for p in inspect.signature(described).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def normalised(weights: Weights | None, experts: Sequence[str], what: str) -> list[float]:
    """Weights of the experts that sum to 1; None means 1/T each.

    Raises:
        UserError: as in `per_expert`, or all are zero.
    """
    w = per_expert(weights, experts, what) if weights is not None else [1 / len(experts)] * len(experts)
    if not sum(w) > 0:
        raise UserError(f"{what}: all are zero: give one expert a weight")
    return [v / sum(w) for v in w]


def per_expert(
    value: float | Sequence[float] | Mapping[str, float], experts: Sequence[str], what: str
) -> list[float]:
    """A number for each of the experts.

    Args:
        value: one for all, one for each in their order, or one by each name, with others ignored.
        experts: their names.
        what: the parameter's name, for error messages.

    Raises:
        UserError: a list of another length, or an expert without a number.
    """
    if isinstance(value, int | float):
        return [float(value)] * len(experts)
    if isinstance(value, Mapping):
        for expert in experts:
            if expert not in value:
                raise UserError(f"{what}: no number for expert {expert}: add one")
        return [float(value[expert]) for expert in experts]
    if len(value) != len(experts):
        raise UserError(
            f"{what}: {len(value)} numbers for {len(experts)} experts: give one per expert, "
            "by their names if merges have several sizes"
        )
    return [float(v) for v in value]


def _words(kind: Any) -> str:
    """The values of a type, in words."""
    options = []
    for option in _options(kind):
        ranges = [str(r) for r in getattr(option, "__metadata__", ()) if isinstance(r, Range)]
        plain = get_args(option)[0] if get_origin(option) is Annotated else option
        if get_origin(plain) is Literal:
            options.append(" | ".join(map(str, get_args(plain))))
        elif get_origin(plain) is Mapping:
            item = get_args(plain)[1]
            nested = len(_options(item)) > 1
            options.append(f"for each layer: {_words(item)}" if nested else "one under each expert's name")
        elif get_origin(plain) is Sequence:
            options.append(f"one {_words(get_args(plain)[0])} per expert")
        elif plain is bool:
            options.append("True | False")
        elif plain is type(None):
            options.append("none")
        else:
            options.append(" ".join([getattr(plain, "__name__", str(plain)), *ranges]))
    return " or ".join(options)


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
        return isinstance(value, Mapping) and all(
            _fits(key, k) and any(_fits(option, v) for option in _options(item)) for k, v in value.items()
        )
    if get_origin(kind) is Sequence:
        (item,) = get_args(kind)
        return isinstance(value, list | tuple) and all(_fits(item, v) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind is type(None) else isinstance(value, kind)
