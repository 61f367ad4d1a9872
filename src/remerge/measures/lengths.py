"""The lengths of prompts, and how many are truncated."""

from collections.abc import Sequence
from statistics import median_high
from typing import Any

from remerge.families import Family
from remerge.records import Prompts


def lengths(family: Family, pairs: Sequence[tuple[Any, Any]]) -> Prompts:
    """The lengths of the prompts of `remerge.tasks.pairs`, and which prompts are truncated."""
    whole = family.lengths([prompt for prompt, _ in pairs])
    read = [example.length - len(example.answer) for example in family.examples("", pairs)]
    return Prompts(
        n=len(whole),
        median=median_high(whole),
        longest=max(whole),
        cut=sum(some < all_ for some, all_ in zip(read, whole, strict=True)),
    )
