"""The time and memory of a job, recorded when it ends well."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from remerge import passes
from remerge.config import Config
from remerge.records import Cost
from remerge.stages._memory import most

BESIDE = ("tables", "figures", "report", "exports")
"""Stages that show or export the results of others."""


@contextmanager
def recorded(config: Config, stage: str, arguments: Sequence[Any]) -> Iterator[None]:
    """Record the time and memory that a stage's job takes, under its arguments."""
    started = time.perf_counter()
    yield
    if stage in BESIDE:
        return
    job, (memory, of_gpu) = "/".join(map(str, [stage, *arguments])), most()
    Cost(
        job=job,
        seconds=round(time.perf_counter() - started, 3),
        cpu=round(time.process_time(), 3),
        memory=memory,
        gpu=of_gpu,
        passes=passes.made(),
    ).write(config.folder, job=job)
