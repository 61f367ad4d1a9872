"""The values of a parameter: one for all tensors, or several by layers' depth and tensors' names."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from remerge.errors import UserError

Value = bool | int | float | str


def check_value(where: Path, place: str, value: Any) -> None:
    """Refuse what is no value: a scalar, a list of these, or conditions, each a ``value`` and a ``filter``.

    Raises:
        UserError: as said.
    """
    if isinstance(value, Value):
        return
    if isinstance(value, dict):
        return check_value(where, place, [value])
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: {place}: must be a number, not {str(value)[:60]!r}")
    if all(isinstance(entry, Value) for entry in value):
        return
    for entry in value:
        right = isinstance(entry, dict) and {"value"} <= entry.keys() <= {"value", "filter"}
        if not right or not isinstance(entry.get("filter"), str | None):
            raise UserError(
                f"{where}: {place}: {str(entry)[:60]!r} among several: give numbers, or mappings of value "
                "and filter"
            )
        inner = entry["value"]
        if isinstance(inner, dict) or (isinstance(inner, list) and any(isinstance(e, dict) for e in inner)):
            raise UserError(f"{where}: {place}: conditions within a condition: give each its own entry")
        check_value(where, place, inner)


def value_at(value: Any, name: str, t: float) -> Any:
    """What a parameter is for one tensor; None if no condition applies.

    A list spreads over the layers: its first number is for the first layer, its last for the last, and those
    between are interpolated. Of conditions, the first whose filter is part of the tensor's name applies.

    Args:
        value: a value that `check_value` accepts.
        name: the tensor.
        t: the depth of its layer, from 0 to 1.
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return value
    if isinstance(value[0], dict):
        fits = (entry for entry in value if (entry.get("filter") or "*") == "*" or entry["filter"] in name)
        return next((value_at(entry["value"], name, t) for entry in fits), None)
    numbers = [number_in(entry) for entry in value]
    at = t * (len(value) - 1)
    first = int(at)
    if any(map(math.isnan, numbers)):
        return value[first]
    last = min(first + 1, len(value) - 1)
    return (1 - (at - first)) * numbers[first] + (at - first) * numbers[last]


def number_in(value: Any) -> float:
    """A number that a file gives, perhaps as a text; NaN if it is none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def filters_in(values: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The parts of names by which conditions choose tensors."""
    for value in (value for given in values for value in given.values()):
        for entry in [value] if isinstance(value, dict) else value if isinstance(value, list) else []:
            if isinstance(entry, dict) and (entry.get("filter") or "*") != "*":
                yield entry["filter"]
