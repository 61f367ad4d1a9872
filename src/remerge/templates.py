"""Texts with ``{column}`` and ``{column[key][0]}`` where the fields of an example go."""

import math
import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

FIELD = re.compile(r"(?P<column>[^\[\].]+)(\[[^\[\]]+\])*")
"""A column, and keys into it."""


class MissingError(Exception):
    """An example has nothing where a template asks for it; the message is the field."""


def columns(template: str) -> set[str]:
    """The columns that a template names.

    Raises:
        ValueError: it is no template: a brace is open, or a field is more than a column and keys into it.
    """
    named = set()
    try:
        for _, field, form, conversion in Formatter().parse(template):
            if field is None:
                continue
            known = FIELD.fullmatch(field)
            if not known or known["column"].isdecimal() or form or conversion:
                written = f"{field}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
                raise ValueError(f"{{{written}}} is not a column with keys in brackets")
            named.add(known["column"])
    except ValueError as error:
        raise ValueError(
            f"a template is not whole ({error}): write {{column}} or {{column[key][0]}}, {{{{ for a brace"
        ) from None
    return named


def filled(template: str, row: Mapping[str, Any]) -> str:
    """A template with the fields of an example; a list is shown as its words, one after the other.

    Raises:
        MissingError: a field is None, NaN, or an entry that a list does not have.
        KeyError: there is no such column.
        TypeError: a field is no text, number or list of them, or a key leads nowhere.
    """
    return _Fields().vformat(template, (), row)


def given(value: Any, field: str) -> Any:
    """A value that is there.

    Raises:
        MissingError: it is None or NaN, or a list in which one is.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise MissingError(field)
    if isinstance(value, list):
        for item in value:
            given(item, field)
    return value


class _Fields(Formatter):
    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        try:
            value, column = super().get_field(field_name, args, kwargs)
        except IndexError:
            raise MissingError(field_name) from None
        return given(value, field_name), column

    def format_field(self, value: Any, format_spec: str) -> str:
        values = value if isinstance(value, list) else [value]
        for part in values:
            if isinstance(part, Mapping | bytes | list):
                raise TypeError(f"a {type(part).__name__} stands where a text should")
        return " ".join(map(str, values))
