"""The lengths of prompts, and how many are truncated."""

from collections.abc import Sequence
from statistics import median_high
from typing import Any

from remerge.families import Example, Family
from remerge.records import Prompts


def lengths(family: Family, pairs: Sequence[tuple[Any, Any]], examples: Sequence[Example]) -> Prompts:
    """The lengths of prompts, and how many are truncated.

    Args:
        family: the family of the models that read them.
        pairs: the result of `remerge.tasks.pairs`.
        examples: what models read of them, equally often for each, as a choice is with each of its answers.
    """
    whole, each = family.lengths([prompt for prompt, _ in pairs]), len(examples) // len(pairs)
    read = [
        min(example.length - len(example.answer) for example in examples[k : k + each])
        for k in range(0, len(examples), each)
    ]
    return Prompts(
        n=len(whole),
        median=median_high(whole),
        longest=max(whole),
        cut=sum(some < all_ for some, all_ in zip(read, whole, strict=True)),
    )
