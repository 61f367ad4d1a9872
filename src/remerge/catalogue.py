"""The catalogue of methods: for a terminal, as a markdown table, and for programs."""

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from remerge.methods import Method, Parameter

WIDTH = 80
"""Columns of the listing."""


def listing(shown: Sequence[Method]) -> str:
    """Methods as paragraphs of at most 80 columns, under the names of their families."""
    paragraphs, family = [], ""
    for known in shown:
        if known.family != family:
            family = known.family
            paragraphs.append(family.upper())
        paragraphs.append(_paragraph(known))
    return "\n\n".join(paragraphs)


def markdown(shown: Sequence[Method]) -> str:
    """The same as a markdown table."""
    lines = ["| method | family | parameters | needs | source | what it computes |", "| --- " * 6 + "|"]
    for known in shown:
        parameters = "<br>".join(f"`{p.name}`{_default(p)}: {p.values}" for p in known.parameters.values())
        cells = [
            f"`{known.name}`",
            known.family,
            parameters,
            _needs(known),
            known.citation,
            known.summary,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def as_json(shown: Sequence[Method]) -> str:
    """The same as a JSON list of objects; a parameter without a default has the key ``required``."""
    return json.dumps([_plain(known) for known in shown], indent=1, ensure_ascii=False)


def _paragraph(known: Method) -> str:
    """A method: its names, its formula, its source, its parameters in two columns."""
    needs = _needs(known)
    texts = [known.summary, known.citation, f"Needs {needs}." if needs else ""]
    lines = [f"{known.name}  {known.label}"]
    for text in filter(None, texts):
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
    names = {p.name: f"{p.name}{_default(p)}" for p in known.parameters.values()}
    column = max(map(len, names.values()), default=0) + 2
    for p in known.parameters.values():
        start = "    " + names[p.name].ljust(column)
        lines += textwrap.wrap(p.values, WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
    return "\n".join(lines)


def _plain(known: Method) -> dict[str, Any]:
    return {
        "name": known.name,
        "label": known.label,
        "family": known.family,
        "citation": known.citation,
        "summary": known.summary,
        "learned": known.learned,
        "needs": {
            "experts": known.needs.experts,
            "answers": known.needs.answers,
            "statistics": known.needs.statistics,
        },
        "parameters": {
            p.name: {"values": p.values, **({"required": True} if p.required else {"default": p.default})}
            for p in known.parameters.values()
        },
    }


def _default(parameter: Parameter) -> str:
    return "" if parameter.required else f" = {parameter.default}"


def _needs(known: Method) -> str:
    """A method's needs beyond the weights, in words."""
    needs = known.needs
    words = [
        f"{needs.experts} experts" if needs.experts else "",
        "inputs" if known.learned else "",
        "answers" if needs.answers else "",
        f"statistics: {needs.statistics}" if needs.statistics else "",
    ]
    return ", ".join(filter(None, words))
