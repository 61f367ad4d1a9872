"""The code that a result depends on, as part of its key."""

import time
from functools import cache
from pathlib import Path

from remerge.config import Config, digest
from remerge.dependence import closure, scoring
from remerge.errors import UserError

STARTED = time.time()
"""The time before which this process has read its code."""


@cache
def _code(files: tuple[Path, ...]) -> str:
    for file in files:
        # Later than now is the clock of another machine.
        if STARTED < file.stat().st_mtime < time.time():
            raise UserError(f"{file}: edited after this job had begun with it as it was: run again")
    return digest([file.read_text("utf-8") for file in files])


def code(config: Config, *more: Path) -> str:
    """The code that scores a model of the benchmark's family, and ``more``, with all that they import."""
    return _code(tuple(closure(*scoring(config.base.family, config.finetune.linear), *more)))
