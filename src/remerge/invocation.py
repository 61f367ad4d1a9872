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


def must_have_its_profile(workflow: Path) -> None:
    """Refuse a profile that is not there: Snakemake passes it over, and runs here what is for a cluster.

    Args:
        workflow: the folder of the Snakefile, below which profiles are sought, too.

    Raises:
        UserError: it is missing.
    """
    written = asked("workflow_profile")
    if written in (None, "none") or (asked("directory") and not Path(written).is_absolute()):
        return  # from another directory, Snakemake has looked before it came here
    places = (Path(written), Path("profiles", written), workflow / "profiles" / written)
    if not any(place.exists() for place in places):
        raise UserError(f"--workflow-profile: {written} is missing: name one of {workflow}/workflow/profiles")


def clustered() -> bool:
    """Whether jobs are sent to other machines; a program that calls Snakemake's API is assumed not to."""
    return asked("executor") not in (None, "local")
