"""Variants that differ in one or two parameters, drawn as one line."""

from dataclasses import replace
from typing import Any

from remerge.report.labels import printed
from remerge.report.recorded import Variant
from remerge.report.style import Style, style


def without(variant: Variant, *keys: str) -> tuple[str, Style]:
    """A variant's name in figures and its style, without some of its parameters."""
    name = printed(variant.name, variant.params)
    notes = tuple(note for note in name.notes if note.split(" ")[0] not in keys)
    method, _, written = variant.name.partition("@")
    kept = [word for word in written.split(",") if word.partition("=")[0] not in keys]
    return str(replace(name, notes=notes)), style(f"{method}@{','.join(kept)}", variant.params)


def across(look: Style) -> dict[str, Any]:
    """The style of a method without these parameters: a horizontal line across the axes."""
    return {**look.line_options(), "linestyle": (0, (4, 2)), "linewidth": 1.0, "markersize": 4}
