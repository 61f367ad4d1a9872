"""Texts with ``{column}``, ``{column[key][0]}`` and ``{column:.1f}`` in the places of an example's fields."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from string import Formatter
from typing import Any

FIELD = re.compile(r"(?P<column>[^\[\].]+)(\[[^\[\]]+\])*")
"""A column with keys into it."""

ROUNDED = re.compile(r"\.\d{1,2}f")
"""The digits behind the point of a number."""


class MissingError(Exception):
    """An example lacks a field that a template needs; the message is the field."""


def columns(template: str) -> set[str]:
    """The columns that a template names.

    Raises:
        ValueError: it is not a template: a brace is open, or a field is more than a column, keys and digits.
    """
    named = set()
    try:
        for _, field, form, conversion in Formatter().parse(template):
            if field is None:
                continue
            known = FIELD.fullmatch(field)
            digits = not form or ROUNDED.fullmatch(form)
            if not known or known["column"].isdecimal() or not digits or conversion:
                written = f"{field}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
                raise ValueError(f"{{{written}}} is not a column with keys in brackets")
            named.add(known["column"])
    except ValueError as error:
        raise ValueError(
            f"a template is wrong ({error}): write {{column}}, {{column[key][0]}} or {{number:.1f}}, "
            "and {{ for a brace"
        ) from None
    return named


def filled(template: str, row: Mapping[str, Any]) -> str:
    """A template filled with the fields of an example; a list appears as its words.

    Raises:
        MissingError: a field is None, NaN, or an entry that a list lacks.
        KeyError: there is no such column.
        TypeError: a field is not a text, a number or a list of them, or a key leads nowhere.
    """
    return _Fields().vformat(template, (), row)


def given(value: Any, field: str) -> Any:
    """A value that is not missing.

    Raises:
        MissingError: it is None or NaN, a list with one of these, or a mapping to None alone.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise MissingError(field)
    if isinstance(value, Mapping) and all(inner is None for inner in value.values()):
        raise MissingError(field)
    if isinstance(value, list):
        for item in value:
            given(item, field)
    return value


class _Fields(Formatter):
    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        column, *keys = re.findall(r"[^\[\]]+", field_name)
        value = kwargs[column]
        for key in keys:
            if value is None:
                raise MissingError(field_name)
            if isinstance(value, str | bytes):  # whose parts would be its letters
                raise TypeError(
                    f"{{{field_name}}} takes {key!r} from a text, {value[:40]!r}, not from a list"
                )
            try:
                value = value[int(key) if key.isdecimal() else key]
            except IndexError:
                raise MissingError(field_name) from None
        return given(value, field_name), column

    def format_field(self, value: Any, format_spec: str) -> str:
        values = value if isinstance(value, list) else [value]
        for part in values:
            if isinstance(part, Mapping | bytes | list):
                raise TypeError(f"there is a {type(part).__name__} instead of a text")
        return " ".join(_rounded(part, format_spec) if format_spec else str(part) for part in values)


def _rounded(value: Any, digits: str) -> str:
    """A number, or the text of one, with some digits behind the point."""
    with suppress(InvalidOperation):
        if (number := Decimal(str(value))).is_finite():
            return format(number, digits)
    raise TypeError(f"{str(value)[:40]!r} is not a number, as {{…:{digits}}} wants")
