"""The time of a benchmark on this machine: a line for each kind of job, measured by `remerge.machine`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from remerge.config import Config
from remerge.here import Here, base_of
from remerge.machine import Machine, start
from remerge.report.labels import duration
from remerge.work import Jobs

PAGE = "tables, figures, page"
"""The row of jobs that show results: each is a process that does little more than start."""

WIDTH = 76
"""The maximum length of a row's name."""

PHASES = ("base", "data", "experts", "references", "scores", "merges", PAGE)
"""Rows that wait for all before them; other rows run at the same time as the one above."""


def described(config: Config) -> list[str]:
    """The time that a benchmark would take here.

    Raises:
        UserError: the base is not on this machine.
    """
    os.environ["TQDM_DISABLE"] = "1"  # progress bars and losses are of no interest here
    with TemporaryDirectory() as folder:
        space = Here(config, base_of(config, Path(folder, "base")))
        machine, jobs = Machine(space, Path(folder)), Jobs(config, space.extents)
        seconds = {row: [machine.seconds(work) for work in works] for row, works in jobs.rows().items()}
    seconds[PAGE] = [start("remerge.report.page", config)] * jobs.shown
    beside = 1 if space.device.type == "cuda" else max(1, (os.cpu_count() or 1) // config.threads)
    return [space.remark, *table(seconds, start("remerge.stages.batch", config), beside)]


def table(seconds: Mapping[str, Sequence[float]], starting: float, beside: int) -> list[str]:
    """The lines of a table, and the time that all jobs take together.

    Args:
        seconds: the seconds of each job, by row, in the order of a run.
        starting: the seconds until a process begins to work.
        beside: the number of jobs that run at a time.
    """
    whole = {row: [s + starting * (row != PAGE) for s in jobs] for row, jobs in seconds.items()}
    count, total = sum(map(len, whole.values())), sum(map(sum, whole.values()))
    lines = [_line(row, len(jobs), sum(jobs)) for row, jobs in seconds.items()]
    started = count - len(seconds[PAGE])
    lines += [_line("their processes, to start", started, started * starting), _line("total", count, total)]
    wall = f"{beside} at a time: about {duration(_wall(whole, beside))}"
    return [f"{'':{WIDTH}}{'jobs':>8}{'time':>16}", *lines, wall]


def _line(row: str, jobs: int, seconds: float) -> str:
    return f"{row[: WIDTH - 1]:{WIDTH}}{jobs:8,}{duration(seconds):>16}"


def _wall(whole: Mapping[str, Sequence[float]], beside: int) -> float:
    """The shortest time for the jobs of all phases, one phase after another."""
    phases: dict[str, list[float]] = {}
    phase = PHASES[0]
    for row, jobs in whole.items():
        phase = next((known for known in PHASES if row.startswith(known)), phase)
        phases.setdefault(phase, []).extend(jobs)
    return sum(max(max(jobs), sum(jobs) / beside) for jobs in phases.values())
