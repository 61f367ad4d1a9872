"""The exceptions for wrong input."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input: the message is one line that names the file, key or tensor and the remedy.

    The command line prints it and exits with status 2, without a traceback.
    """


class Diverged(UserError):
    """Training or learning that ended in NaN or infinity; another setting may not."""


class Stale(UserError):
    """A file that is intact but would be made differently today."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line about an unknown name: the nearest known name, or all of them if none is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} {name!r}, {hint}"


def cause_of(error: BaseException) -> str:
    """A library's words on a failure, as part of one line; the kind of error where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
