"""Notes to people, on standard error: what a command prints stays whole."""

import sys
from collections.abc import Iterable


def note(text: str) -> None:
    """One line."""
    print(f"remerge: {text}", file=sys.stderr, flush=True)


def note_on(names: Iterable[str], what: str) -> None:
    """One line about things with these names; none if there are no names."""
    if listed := ", ".join(sorted(names)):
        note(f"{listed}: {what}")
