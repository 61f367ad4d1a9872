"""A run on the screen: its stages as they end, and one line with steps, merges and the time left."""

import os
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from remerge.batches import by_rule
from remerge.config import Config
from remerge.journal import shares_of

OFTEN, SELDOM = 1.0, 60.0
"""Seconds between lines: on a terminal, where each replaces the one before, and in a file."""

SHORT = 3.0
"""The assumed seconds of a job if none of its kind has ended yet: a table or figure."""


@dataclass(frozen=True)
class Job:
    """A running job.

    Attributes:
        stage: the stage that it belongs to.
        started: its start, in seconds of the clock.
    """

    stage: str
    started: float


@dataclass(frozen=True)
class Group:
    """A group of merges.

    Attributes:
        count: their number.
        record: the file of their records.
        journal: the journal, which has them before.
    """

    count: int
    record: Path
    journal: Path


class Screen:
    """The lines that a run shows.

    Attributes:
        planned: the number of jobs of each stage.
        done: the number of them that have ended.
        running: the running jobs, by their numbers.
        seconds: the times of each stage's finished jobs.
        side_by_side: the largest number that ran at once.
        before: the merges that existed when the run began.
        groups: the groups of merges that the planned jobs make.
        total: the number of these merges.
    """

    def __init__(self, config: Config, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.stream, self.clock = config, stream, clock
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.planned: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.running: dict[int, Job] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.side_by_side = 1
        self.began = clock()
        self.before = 0
        self.groups: list[Group] = []
        self.total = 0
        self._lock = threading.RLock()

    def start(self, counts: Mapping[str, int]) -> None:
        """A run begins, with these numbers of jobs of each rule."""
        for rule, count in counts.items():
            if rule not in ("all", "total"):
                self.planned[stage_of(rule)] += count
        made_by = _groups(self.config)
        self.groups = [group for rule in counts for group in made_by.get(rule, ())]
        self.total = sum(group.count for group in self.groups)
        self.began, self.before = self.clock(), self.merges()
        merges = [_many(self.total, "merge")] if self.total else []
        self.say(f"{self.config.benchmark}: {', '.join([_many(self.planned.total(), 'step'), *merges])}")
        threading.Thread(target=self._tick, daemon=True).start()

    def begin(self, job: int, rule: str) -> None:
        """A job begins."""
        with self._lock:
            self.running[job] = Job(stage_of(rule), self.clock())
            self.side_by_side = max(self.side_by_side, len(self.running))

    def end(self, job: int) -> None:
        """A job has succeeded; the stage is shown after its last job."""
        with self._lock:
            known = self.running.pop(job, None)
            if known is None:
                return
            self.done[known.stage] += 1
            self.seconds[known.stage] += self.clock() - known.started
            if self.done[known.stage] == self.planned[known.stage]:
                count = self.total if known.stage == "merges" else self.done[known.stage]
                self.say(f"{self._time():>8}  {known.stage} ({count})")
            if self.done == self.planned:
                self.say(f"{self._time():>8}  results are in {self.config.folder}/")

    def fail(self, job: int) -> None:
        """A job has failed; it begins again where it is tried again."""
        with self._lock:
            self.running.pop(job, None)

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self.stream.write(f"\r\033[K{text}\n" if self.live else f"{text}\n")
            self.stream.flush()

    def line(self) -> str:
        """The state of the run: steps and merges done, the time, and the time left once it is known."""
        doing = ", ".join(dict.fromkeys(job.stage for job in self.running.values()))
        parts = [f"{self._time():>8}  {doing}", f"{self.done.total()} of {self.planned.total()} steps"]
        parts += [f"{self.merges()} of {self.total} merges"] if self.total else []
        left = self.left()
        return ", ".join([*parts, *([f"about {_spoken(left)} left"] if left is not None else [])])

    def merges(self) -> int:
        """The number of recorded merges; those of unfinished groups are counted in their journals."""
        return sum(
            some.count
            if some.record.exists()
            else min(some.count, sum(map(_lines, [some.journal, *shares_of(some.journal)])))
            for some in self.groups
        )

    def left(self) -> float | None:
        """The seconds left, judging by the jobs of each stage and the merges so far; None if unknown."""
        made, remaining = self.merges() - self.before, self.total - self.merges()
        if remaining and not made:
            return None
        running = [job for job in self.running.values() if job.stage == "merges"]
        spent = self.seconds["merges"] + sum(self.clock() - job.started for job in running)
        work = remaining * spent / made if made else 0.0
        for stage, planned in self.planned.items():
            if stage != "merges":
                each = self.seconds[stage] / self.done[stage] if self.done[stage] else SHORT
                work += (planned - self.done[stage]) * each
        return work / self.side_by_side

    def _tick(self) -> None:
        """Write the line repeatedly while this process lives."""
        while self.done != self.planned:
            time.sleep(OFTEN if self.live else SELDOM)
            with self._lock:
                if not self.running:
                    continue
                if self.live:
                    width = shutil.get_terminal_size().columns - 1
                    self.stream.write(f"\r\033[K{self.line()[:width]}")
                    self.stream.flush()
                else:
                    self.say(self.line())

    def _time(self) -> str:
        minutes, seconds = divmod(int(self.clock() - self.began), 60)
        return f"{minutes}:{seconds:02}"


def _groups(config: Config) -> dict[str, list[Group]]:
    """The groups of merges that each rule makes."""
    return {
        rule: [
            Group(
                len(config.cases(config.groups(variant)[group])[group]) * variant.seeds,
                config.folder / f"merges/{variant.name}/{group}.jsonl",
                config.folder / f"journal/merges/{variant.name}/{group}.jsonl",
            )
            for variant, group in batch.merges
        ]
        for rule, batch in by_rule(config).items()
    }


def stage_of(rule: str) -> str:
    """The stage of a rule."""
    return {"merge": "merges", "select": "selection"}.get(rule.partition("_")[0], rule)


def _lines(journal: Path) -> int:
    try:
        with journal.open("rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def _many(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count} {noun}{'s' * (count != 1)}"


def _spoken(seconds: float) -> str:
    """A time in words."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 90 else f"{minutes or 1} min"
