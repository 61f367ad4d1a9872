"""The command line of the Snakemake in this process; Snakemake tells a workflow less."""

import argparse
import sys
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from snakemake.cli import parse_args

from remerge.errors import UserError


@cache
def arguments() -> argparse.Namespace:
    """The arguments, including those of profiles, read once: Snakemake then goes to its `--directory`.

    Raises:
        UserError: it is there already, and the path of a profile was relative to where it was before.
    """
    try:
        with redirect_stderr(StringIO()):  # the messages about profiles were already shown
            parsed: argparse.Namespace = parse_args(sys.argv[1:])[1]
    except SystemExit:
        raise UserError("--directory: give the absolute path of the profile, too") from None
    return parsed


def asked(option: str) -> Any:
    """The value of an option; None in a program that calls Snakemake's API."""
    started = "snakemake" in Path(sys.argv[0]).parts[-2:]
    return getattr(arguments(), option) if started else None


def clustered() -> bool:
    """Whether jobs are sent to other machines; a program that calls Snakemake's API is assumed not to."""
    return asked("executor") not in (None, "local")
