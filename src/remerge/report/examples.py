"""Each merge's outcome on each test example, for the part of the page that shows them side by side."""

import json
from typing import Any

from markupsafe import Markup

from remerge.config import RIGHT_OR_WRONG, Task
from remerge.outcomes import unpack, unpack_taken
from remerge.records import Score
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.tasks import answers_of, pairs, read_split

LONGEST = 240
"""Letters of an input that are shown."""

LARGEST = 4_000_000
"""The largest total of letters, to keep the page light; `remerge.Benchmark.outcomes` has the rest."""


def answered(run: Run) -> Markup | None:
    """Inputs, answers and outcomes as JSON that is safe in a page; None if there are none or too many.

    Outcomes are as in records, one bit per example; of several seeds, those of the first. Of a choice, the
    options taken stand beside them. Images, and tasks that are not judged right or wrong, are left out.
    """
    tasks = {
        task: known
        for task, asked in run.config.tasks.items()
        if not asked.image and run.own[task].metric in RIGHT_OR_WRONG and (known := _task(run, task))
    }
    merges: dict[tuple[int, str], Any] = {}
    for place, variant in enumerate(run.variants):
        for size in run.sizes:
            for merge in run.merges(variant.name, size):
                kept = {task: merge.scores[task].outcomes for task in merge.tasks if task in tasks}
                wrong = {task: _wrong(run.config.task(task), merge.scores[task]) for task in kept}
                if kept:
                    merges.setdefault((place, merge.case), [place, merge.case, merge.anp, kept, wrong])
    if not tasks or not all(all(kept.values()) for *_, kept, _ in merges.values()):
        return None
    methods = [variant.label for variant in run.variants]
    whole = {"methods": methods, "tasks": tasks, "merges": [*merges.values()]}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(text) if len(text) <= LARGEST else None


def _task(run: Run, task: str) -> dict[str, Any] | None:
    """A task's test split; None if it is missing."""
    file = run.results / "data" / task / "test.parquet"
    if not file.is_file():
        return None
    settings, rows = run.config.task(task), read_split(file)
    asked = pairs(str(file), settings, rows, speaks=True)
    options = [[*map(_short, answers_of(settings, row))] for row in rows] if settings.chooses else None
    return {
        "label": task_label(task),
        "n": len(asked),
        "expert": run.own[task].outcomes,
        "wrong": _wrong(settings, run.own[task]),
        "options": options,
        "inputs": [_short(text) for text, _ in asked],
        "answers": [_short(str(answer)) for _, answer in asked],
    }


def _wrong(task: Task, score: Score) -> list[int] | None:
    """The option of each wrong choice; None if answers are not chosen, or in records of earlier versions."""
    if not task.chooses or score.outcomes is None or score.taken is None:
        return None
    right = unpack(score.outcomes, score.metric, score.n)
    taken = unpack_taken(score.taken, len(task.answers), score.n)
    return [place for place, gold in zip(taken, right, strict=True) if not gold]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
