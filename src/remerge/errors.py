"""The exceptions for wrong input."""

import difflib
from collections.abc import Iterable

NEAR = 0.4
"""The least likeness of a name that may be meant by another, from 0 to 1."""


class UserError(Exception):
    """Wrong input: the message is one line that names the file, key or tensor and the remedy.

    The command line prints it and exits with status 2, without a traceback.
    """


class Diverged(UserError):
    """Training or learning that ended in NaN or infinity; another setting may not."""


class Stale(UserError):
    """A file that is intact but would be made differently today."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line about an unknown name: the nearest known name, or all of them if none is near.

    A variant is near if its method is, and its parameters come second.
    """
    names = list(known)
    likeness = {other: (_ratio(_method(name), _method(other)), _ratio(name, other)) for other in names}
    near = max(likeness, key=lambda other: likeness[other], default=None)
    hint = f"known: {', '.join(names)}"
    if near is not None and likeness[near][0] >= NEAR:
        hint = f"did you mean {near}?"
    return f"unknown {kind} {name!r}, {hint}"


def _method(variant: str) -> str:
    return variant.partition("@")[0]


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def cause_of(error: BaseException) -> str:
    """A library's words on a failure, as part of one line; the kind of error where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
