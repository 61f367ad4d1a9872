"""Checks that the files of a run are as they were made, as far as possible without torch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from remerge.errors import Stale, UserError
from remerge.made import checked
from remerge.records import (
    Alignment,
    Cost,
    Data,
    Divergences,
    Made,
    Merge,
    Model,
    Record,
    Reference,
    Scores,
    Selection,
    Weights,
)
from remerge.report.run import Run
from remerge.versions import versions

NOTED = ("data/*/*.parquet", "references/*.safetensors", "statistics/*/*.safetensors")
"""The files that have a note beside them."""


@dataclass
class Findings:
    """The findings.

    Attributes:
        looked_at: the checked files.
        corrupt: a line for each file that differs from what was written.
        stale: a line for each file that would be made differently today.
    """

    looked_at: set[Path] = field(default_factory=set)
    corrupt: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    @contextmanager
    def of(self, path: Path) -> Iterator[None]:
        """Check a file: an error is its fault, and is reported once."""
        self.looked_at.add(path)
        try:
            yield
        except UserError as error:
            lines = self.stale if isinstance(error, Stale) else self.corrupt
            lines += [str(error)] if str(error) not in lines else []

    @property
    def summary(self) -> str:
        """All findings in a few words."""
        if not self.corrupt and not self.stale:
            return f"{len(self.looked_at)} files are unchanged since they were made"
        return f"of {len(self.looked_at)} files, {len(self.corrupt)} are corrupt and {len(self.stale)} stale"


def look(run: Run) -> Findings:
    """Check every record, and the contents of data; weights, and files made from them, are not read.

    Only existing files are checked: a run may be unfinished.
    """
    found = Findings()
    for model in run.config.models:
        if (path := Model.place(run.results, model=model)).exists():
            with found.of(path):
                same_versions(path, run.model(model).versions)
    for path in sorted(path for pattern in NOTED for path in run.results.glob(pattern)):
        with found.of(path):
            note = Made.read(run.results, what=str(path.relative_to(run.results)))
            same_versions(path, note.versions)
            if path.suffix == ".parquet":
                checked(run.results, path, {})
    for path, read in _records(run).items():
        with found.of(path):
            read()
    return found


def same_versions(path: Path, known: Mapping[str, str]) -> None:
    """Refuse a file that other versions made.

    Raises:
        Stale: a package that was used then has another version here.
    """
    now = versions()
    for package, then in known.items():
        if now.get(package) != then:
            here = now.get(package, "none")
            raise Stale(f"{path} was made with {package} {then}, not {here} as here: delete it and run again")


def _records(run: Run) -> dict[Path, Callable[[], Any]]:
    """The existing records, each with the function that reads it."""
    config, found = run.config, dict[Path, Callable[[], Any]]()

    def add(kind: type[Record], read: Callable[..., Any], **key: str | int) -> None:
        if (path := kind.place(run.results, **key)).exists():
            found[path] = read

    for model in config.models:
        add(Scores, partial(run.scores, model), model=model)
    for task in config.tasks:
        add(Data, partial(run.data, task), task=task)
        add(Divergences, partial(run.divergences, task), model=task)
        add(Reference, partial(run.reference, task), task=task)
    for job in run.jobs:
        add(Cost, partial(run.cost, job), job=job)
    add(Weights, lambda: run.weights)
    add(Alignment, lambda: run.alignment)
    for variant in config.merge.variants:
        for plan in config.chosen_for(variant):
            add(Selection, partial(run.selection, variant.name, plan), variant=variant.name, plan=plan)
        for group in config.groups(variant):
            add(Merge, partial(run.merges, variant.name, group), variant=variant.name, group=group)
    return found
