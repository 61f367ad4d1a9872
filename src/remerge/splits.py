"""A task's examples, drawn from its source: no example in two splits."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remerge.config import SPLITS, Kind, Task
from remerge.datafiles import read_source
from remerge.errors import UserError, unknown
from remerge.files import DATA, check_folder
from remerge.miniature import TASKS as MINIATURE
from remerge.miniature import examples
from remerge.records.data import Data, Examples
from remerge.tasks import Row, lacks, pairs
from remerge.templates import MissingError, given


@dataclass(frozen=True)
class Drawn:
    """A task's examples.

    Attributes:
        rows: the examples of each split.
        dropped: the number of source examples left out because something is missing.
    """

    rows: dict[Kind, list[Row]]
    dropped: int = 0


def make_splits(name: str, task: Task, seed: int) -> Drawn:
    """The train, validation and test examples of a task, no example in two of them.

    If one split of the source serves several of ours, it is shuffled by the seed and cut: test first, then
    validation, then train.

    Raises:
        UserError: the source is out of reach, a split, column, label or value is missing, or a split would
            be empty.
    """
    if task.source == "miniature":
        if name not in MINIATURE:
            raise UserError(f"tasks.{name}: {unknown('miniature task', name, MINIATURE)}")
        sizes = task.sizes.model_dump()
        return Drawn({split: examples(name, split, sizes[split], seed) for split in SPLITS})
    check_folder(f"tasks.{name}.source", task.source, DATA)
    sources: dict[str, Any] = {}
    left: dict[str, list[int]] = {}
    taken: dict[str, list[int]] = {}
    dropped = 0
    for split in reversed(SPLITS):
        origin = getattr(task.splits, split)
        if origin not in sources:
            sources[origin] = read_source(task, origin)
            left[origin] = list(range(len(sources[origin])))
            random.Random(f"{seed}/{name}/{origin}").shuffle(left[origin])
            if task.missing == "drop":
                whole = _whole(sources[origin], task)
                dropped += len(left[origin]) - len(whole)
                left[origin] = [index for index in left[origin] if index in whole]
        size = getattr(task.sizes, split)
        if task.splits.stratify:
            taken[split], left[origin] = _cut_in_shares(left[origin], size, sources[origin], task, seed)
        else:
            taken[split], left[origin] = left[origin][:size], left[origin][size:]
        if not taken[split]:
            raise UserError(
                f"tasks.{name}: nothing left for {split} in split {origin!r} of {task.source}: "
                "give more examples, or lower sizes"
            )
    rows: dict[Kind, list[Row]] = {}
    for split in SPLITS:
        origin = getattr(task.splits, split)
        rows[split] = _rows(sources[origin], taken[split], task)
        where = f"tasks.{name}: split {origin!r} of {task.source}"
        pairs(where, task, rows[split], speaks=True, numbers=taken[split])
    return Drawn(rows, dropped)


def _whole(source: Any, task: Task) -> set[int]:
    """The examples of a source in which nothing is missing."""
    return {index for index, row in enumerate(source) if not lacks(task, row)}


def _cut_in_shares(
    left: list[int], size: int, source: Any, task: Task, seed: int
) -> tuple[list[int], list[int]]:
    """``size`` indices with the same shares of labels as the whole, and the rest."""
    # Imported here: it takes a second, and only stratified splits need it.
    from sklearn.model_selection import train_test_split

    if size >= len(left):
        return left, []
    if task.target not in source.column_names:
        raise UserError(f"{task.source}: splits.stratify needs a column as target, not {task.target!r}")
    column = source.select_columns(task.target)[:][task.target]
    try:
        for number in left:
            given(column[number], task.target)
        taken, rest = train_test_split(
            left, train_size=size, stratify=[column[i] for i in left], random_state=seed
        )
    except MissingError as field:
        raise UserError(
            f"{task.source}: splits.stratify: example {number + 1} has nothing in {field}: fill it, or leave "
            "such examples out with missing: drop"
        ) from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{task.source}: splits.stratify: {error}: leave it out") from None
    return list(taken), list(rest)


def _rows(source: Any, indices: list[int], task: Task) -> list[Row]:
    """Examples of a source as plain values, with images as files."""
    rows: list[Row] = source.select(indices).to_list()
    return (
        [{**row, task.image: _bytes(row.get(task.image), task.source)} for row in rows]
        if task.image
        else rows
    )


def _bytes(image: Any, source: str) -> bytes | None:
    """The file of an image, as `datasets` keeps it: its bytes, or their path; None if it is missing.

    Raises:
        UserError: it is no image, or files of a local source name images by path, whose changes nobody
            would notice.
    """
    kept = image if isinstance(image, dict) else {"path" if isinstance(image, str) else "bytes": image}
    found, path = kept.get("bytes"), kept.get("path")
    if found is None and path is not None:
        if Path(source).is_dir() or isinstance(image, str):
            raise UserError(f"{source}: names images by path, as {path}: save it with the images in it")
        found = Path(path).read_bytes()
    if not isinstance(found, bytes | None):
        raise UserError(f"{source}: a {type(found).__name__} instead of an image: give the bytes of its file")
    return found


def described(name: str, task: Task, drawn: Drawn) -> Data:
    """Findings in a task's examples: repeated inputs, and labels that a split lacks.

    Args:
        name: the task's name.
        task: the task, with prompt and answers.
        drawn: the examples.
    """
    splits: dict[str, Examples] = {}
    before: set[Any] = set()
    for split, rows in drawn.rows.items():
        asked = pairs(f"tasks.{name}: {split}", task, rows, speaks=not task.answers)
        inputs = [read for read, _ in asked]
        used = {answer for _, answer in asked}
        splits[split] = Examples(
            n=len(rows),
            repeated=len(inputs) - len(set(inputs)),
            seen=sum(read in before for read in inputs),
            lacking=[
                str(name) for label, name in enumerate(task.labels or task.answers) if label not in used
            ],
        )
        before |= set(inputs)
    return Data(task=name, dropped=drawn.dropped, splits=splits)
