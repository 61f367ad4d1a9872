"""The paper's own method among the variants of a benchmark: JS at a given level, otherwise with defaults."""

from collections.abc import Iterable
from typing import Any

from remerge.report.labels import printed

LABELS = {"task": "DivMerge JS (TL)", "layer": "DivMerge JS (LL)"}


def own(variants: Iterable[Any], level: str) -> str | None:
    """The name of the variant, if there is one."""
    return next((v.name for v in variants if str(printed(v.name, v.params)) == LABELS[level]), None)
