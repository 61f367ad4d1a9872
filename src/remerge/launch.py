"""The pipeline, run from any folder: Snakemake with the project's own Snakefile, in the user's folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from remerge.errors import UserError

PACKAGE = Path(__file__).parent


def project() -> Path:
    """The folder of Snakefile, rules and configurations: a checkout, or the installed package."""
    checkout = PACKAGE.parents[1]
    return checkout if (checkout / "Snakefile").is_file() else PACKAGE / "project"


def miniature(name: str) -> Path:
    """The configuration of a miniature benchmark: ``demo``, or for example ``t5`` for `demo-t5`.

    Raises:
        UserError: there is none with this name.
    """
    folder = project() / "config"
    file = folder / ("demo.yaml" if name == "demo" else f"demo-{name}.yaml")
    if not file.is_file():
        known = sorted(path.stem.removeprefix("demo-") for path in folder.glob("demo*.yaml"))
        raise UserError(f"unknown miniature {name!r}, known: {', '.join(known)}")
    return file


def run(config: Path, more: Sequence[str]) -> NoReturn:
    """Become Snakemake, which runs a benchmark in the working directory, with output in `results/`.

    As a child, it would be killed before its jobs on Ctrl-C, and would go on alone where this process ends.

    Args:
        config: its configuration.
        more: further arguments for Snakemake.

    Raises:
        UserError: they name another configuration, which Snakemake would take in its place.
    """
    if any(word.partition("=")[0] in ("--configfile", "--configfiles") for word in more):
        raise UserError(f"--configfile: {config} is the configuration: write `include:` into it for another")
    root = project()
    profile = root / "workflow/profiles" / ("gpu" if _has_gpu() else "local")
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile")]
    # The profile last: every word after --configfile would be a configuration, targets too.
    how = ["--configfile", str(config), "--workflow-profile", str(profile)]
    os.execv(sys.executable, [*start, *how, *more])


def command(benchmark: str) -> str:
    """The command that runs a benchmark in the working directory; a target may follow it."""
    own = Path("config") / f"{benchmark}.yaml"
    # The last exists after every run, wherever its configuration lies and whatever `--config` changed in it.
    file = next((f for f in (own, Path(own.name)) if f.exists()), Path("results", benchmark, "config.yaml"))
    if Path("Snakefile").exists():
        return f"snakemake --configfile {file} --cores all --"
    name = benchmark.removeprefix("demo-")
    with suppress(UserError):
        if miniature(name).stem == benchmark:
            return f"remerge demo {name}"
    return f"remerge run {file}"


def _has_gpu() -> bool:
    found = shutil.which("nvidia-smi")
    return bool(found) and subprocess.run([str(found), "-L"], capture_output=True).returncode == 0
