"""The code that a result depends on, as part of its key."""

from functools import cache
from pathlib import Path

from remerge import sources
from remerge.config import Config, digest


@cache
def _code(files: tuple[Path, ...]) -> str:
    return digest([file.read_text() for file in files])


def code(config: Config, *more: Path) -> str:
    """The code that scores a model of the benchmark's family, and ``more``, with all that they import."""
    return _code(tuple(sources.closure(*sources.scoring(config.base.family, config.finetune.linear), *more)))
