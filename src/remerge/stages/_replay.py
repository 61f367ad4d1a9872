"""Every stage of a run again, from its journal only: a file that today's code would not make is stale."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from remerge import exhibits
from remerge.config import SPLITS
from remerge.errors import Stale, UserError
from remerge.journal import Journal
from remerge.made import checked
from remerge.records import (
    Alignment,
    Data,
    Divergences,
    Lengths,
    Merge,
    Model,
    Record,
    Scores,
    Selection,
    Weights,
)
from remerge.report.make import place, printed
from remerge.report.page import of_records, page, page_file
from remerge.report.run import Run
from remerge.splits import Drawn, described
from remerge.stages import alignment, data, divergences, experts, lengths, merges, scores, selection, weights
from remerge.stages._bench import Bench
from remerge.stages._kept import CHANGED, Kept, Missing, Replay, precisions
from remerge.stages._paths import data_file
from remerge.stages._workspace import Workspace
from remerge.verify import Findings, look, same_versions


class _Checked(Kept):
    """A journal whose records are of today's versions."""

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The record under ``key``, if today's versions computed it."""
        record = super().recall(key, compute)
        same_versions(self.path, self.entries[key].versions)
        return record


class _Replay(Replay):
    """A workspace in which nothing is computed, of journals that are checked."""

    kept = _Checked


def verify(run: Run) -> Findings:
    """Check every file of a run against its origins: contents, records, code, settings, versions, inputs.

    Raises:
        UserError: the configuration is missing or wrong.
    """
    ways = [_verified(run, precision) for precision in precisions(run.config)]
    return min(ways, key=lambda found: len(found.stale))


def _verified(run: Run, precision: str) -> Findings:
    """The findings about a run that computed in a precision."""
    found, space = look(run), _Replay(run.config, precision)
    _check_models(run, space, found)
    _check_noted(run, space, found)
    for path in sorted(run.results.glob("journal/**/*.jsonl")):
        with found.of(path):
            if broken := Journal(path).broken:
                raise UserError(
                    f"{path} has {broken} lines that were altered after they were written: run again"
                )
    _check_records(run, space, found)
    if _check_exhibits(run, found):
        _check_page(run, found)
    return found


def _check_models(run: Run, space: Workspace, found: Findings) -> None:
    """The files of each model, and what it was trained from."""
    for model in run.config.models:
        file = Model.place(run.results, model=model)
        if file.exists():
            with found.of(file):
                space.path(model)
                now = {} if model == "base" else experts.follows(space, model)
                for what, then in space.record(model).follows.items():
                    if now.get(what) != then:
                        again = "delete it and run again"
                        raise Stale(f"{file} was trained from other {what} than today's: {again}")


def _check_noted(run: Run, space: Workspace, found: Findings) -> None:
    """Check data, references and statistics, which have no record of their own."""
    config = run.config

    def check(path: Path, follows: Callable[[], Mapping[str, str]]) -> None:
        if path.exists():
            with found.of(path):
                checked(run.results, path, follows())

    def answered(task: str, kind: str) -> Mapping[str, str]:
        return space.reference_follows(task, space.reference_inputs(task, kind))

    for task in config.tasks:
        _check_findings(run, space, found, task)
        for split in SPLITS:
            check(data_file(run.results, task, split), partial(data.follows, config, task))
        for kind in ("", *config.stand_ins):
            check(space.reference_file(task, kind), partial(answered, task, kind))
        for path in sorted((run.results / "statistics" / task).glob("*.safetensors")):
            check(path, partial(space.statistics_follow, task))


def _check_findings(run: Run, space: Workspace, found: Findings, task: str) -> None:
    """Count again what a record says of a task's examples, which follows from its prompt too."""
    file = Data.place(run.results, task=task)
    if file.exists():
        with found.of(file):
            known, rows = run.data(task), {split: space.rows(task, split) for split in SPLITS}
            if described(task, run.config.task(task), Drawn(rows, known.dropped)).splits != known.splits:
                raise Stale(f"{file} is not of today's examples and prompts: run its stage again")


Records = Callable[[], Sequence[Record]]
"""Makes the records of a file again, or reads them."""


def _check_file(found: Findings, path: Path, make: Records, read: Records) -> None:
    """Make the records of a file again from a journal, and compare them with the file, if it exists."""
    if path.exists():
        with found.of(path):
            try:
                now = make()
            except Missing:
                raise Stale(f"{path} {CHANGED}: run its stage again") from None
            if [record.sealed() for record in now] != [record.sealed() for record in read()]:
                raise UserError(f"{path} differs from its journal: delete it and run again")


def _check_records(run: Run, space: Workspace, found: Findings) -> None:
    """Make the outputs of stages again from their journals, and compare them with the files."""
    config, bench = run.config, Bench(run.config, space)

    def check_one(kind: type[Record], make: Callable[[], Record], **key: str | int) -> None:
        path = kind.place(run.results, **key)
        _check_file(found, path, lambda: [make()], lambda: [kind.read(run.results, **key)])

    def scored(model: str) -> Scores:
        return scores.made(space, [model])[model]

    def compared(model: str) -> Divergences:
        return divergences.made(space, [model])[model]

    for model in config.models:
        check_one(Scores, partial(scored, model), model=model)
    if config.base.reads == "text":
        check_one(Lengths, partial(lengths.made, space))
    for task in config.tasks:
        check_one(Divergences, partial(compared, task), model=task)
    check_one(Weights, partial(weights.made, bench))
    check_one(Alignment, partial(alignment.made, bench))
    for variant in config.merge.variants:
        for plan in config.chosen_for(variant):
            make = partial(selection.made, bench, variant, plan)
            check_one(Selection, make, variant=variant.name, plan=plan)
        for group in config.groups(variant):
            key: dict[str, str | int] = {"variant": variant.name, "group": group}
            _check_file(
                found,
                Merge.place(run.results, **key),
                partial(merges.made, bench, variant, group),
                partial(Merge.read_lines, run.results, **key),
            )


def _check_exhibits(run: Run, found: Findings) -> bool:
    """Compare tables and figures with what today's records and code make: whether all are the same."""
    known = len(found.corrupt) + len(found.stale)
    for exhibit in exhibits.of(run.config).values():
        now = cache(partial(printed, exhibit, run))
        for path in sorted(place(run, exhibit, "*").parent.glob(f"{exhibit.name}.*")):
            with found.of(path):
                if now().get(path.suffix[1:]) != path.read_bytes():
                    raise _other(path)
    return len(found.corrupt) + len(found.stale) == known


def _check_page(run: Run, found: Findings) -> None:
    """Compare the page with what today's records, tables, figures and code make."""
    path = page_file(run)
    if path.exists():
        with found.of(path):
            if of_records(page(run)) != of_records(path.read_text("utf-8", "replace")):
                raise _other(path)


def _other(path: Path) -> Stale:
    return Stale(f"{path} is not what today's records and code make: delete it and run again")
