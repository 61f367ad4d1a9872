"""A task's examples: fetched, split, checked, and turned into inputs and answers."""

import csv
import gzip
import json
import random
from pathlib import Path
from string import Formatter
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from remerge.config import Task
from remerge.errors import UserError
from remerge.files import write_with
from remerge.miniature import TASKS as MINIATURE
from remerge.miniature import examples

Kind = Literal["train", "validation", "test"]
SPLITS: tuple[Kind, ...] = get_args(Kind)
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}

Row = dict[str, Any]


def make_splits(name: str, task: Task, seed: int) -> dict[str, list[Row]]:
    """The train, validation and test examples of a task, no example in two of them.

    Where one split of the source serves several of ours it is shuffled by the seed and cut: test first, then
    validation, then train.

    Raises:
        UserError: the source is out of reach, a split, column or label is not there, or a split ends empty.
    """
    if task.source == "miniature":
        if name not in MINIATURE:
            known = ", ".join(MINIATURE)
            raise UserError(f"tasks.{name}: the miniature world has no such task, it has: {known}")
        sizes = task.sizes.model_dump()
        return {split: examples(name, split, sizes[split], seed) for split in SPLITS}
    sources: dict[str, Any] = {}
    left: dict[str, list[int]] = {}
    made = {}
    for split in reversed(SPLITS):
        origin = getattr(task.splits, split)
        if origin not in sources:
            sources[origin] = _read_split(task, origin)
            left[origin] = list(range(len(sources[origin])))
            random.Random(f"{seed}/{name}/{origin}").shuffle(left[origin])
        size = getattr(task.sizes, split)
        cut = _cut_in_shares if task.splits.stratify else _cut
        taken, left[origin] = cut(left[origin], size, sources[origin], task, seed)
        if not taken:
            raise UserError(f"tasks.{name}: nothing left for {split} in split {origin!r} of {task.source}")
        made[split] = _rows(sources[origin], taken, task)
    for split, rows in made.items():
        pairs(f"tasks.{name}: {split}", task, rows, speaks=True)
    return {split: made[split] for split in SPLITS}


def _cut(left: list[int], size: int, source: Any, task: Task, seed: int) -> tuple[list[int], list[int]]:
    """The first ``size`` indices, and the rest."""
    return left[:size], left[size:]


def _cut_in_shares(
    left: list[int], size: int, source: Any, task: Task, seed: int
) -> tuple[list[int], list[int]]:
    """``size`` indices whose labels are in the shares of the whole, and the rest."""
    # Imported here: it takes a second, and only stratified splits need it.
    from sklearn.model_selection import train_test_split

    if size >= len(left):
        return left, []
    if task.target not in source.column_names:
        raise UserError(f"{task.source}: splits.stratify needs target to be a column, not {task.target!r}")
    column = source.select_columns(task.target)[:][task.target]
    try:
        taken, rest = train_test_split(
            left, train_size=size, stratify=[column[i] for i in left], random_state=seed
        )
    except ValueError as error:
        raise UserError(f"{task.source}: splits.stratify: {error}") from None
    return list(taken), list(rest)


def _rows(source: Any, indices: list[int], task: Task) -> list[Row]:
    """Examples of a source as plain values, an image as its file."""
    rows: list[Row] = source.select(indices).to_list()
    return [{**row, task.image: _bytes(row.get(task.image))} for row in rows] if task.image else rows


def pairs(where: str, task: Task, rows: list[Row], speaks: bool) -> list[tuple[Any, str | int]]:
    """The input of every example, and its answer: in words, or the number of its class.

    Raises:
        UserError: a column is missing, or a label is outside the declared ones.
    """
    made: list[tuple[Any, str | int]] = []
    for row in rows:
        try:
            given = row[task.image] if task.image else _filled(task.prompt or "", row)
            answer = _answer(where, task, row, speaks)
        except (KeyError, IndexError, TypeError) as missing:
            columns = ", ".join(row)
            raise UserError(
                f"{where}: no column {missing} (there are: {columns}): see prompt, answers and target"
            ) from None
        made.append((given, answer))
    return made


def _answer(where: str, task: Task, row: Row, speaks: bool) -> str | int:
    target = _filled(task.target, row) if "{" in task.target else row[task.target]
    if not task.answers:
        return str(target)
    labels = task.labels or list(range(len(task.answers)))
    if target not in labels:
        raise UserError(
            f"{where}: label {target!r} has no answer: answers takes one for each label, "
            "in the order of labels"
        )
    label = labels.index(target)
    return _filled(task.answers[label], row) if speaks else label


def shuffled(row: Row, task: Task, seed: str) -> Row:
    """An example with the words of each of its texts in another order; its answer stays."""
    draw = random.Random(seed)
    texts = {
        key: value.split() for key, value in row.items() if isinstance(value, str) and key != task.target
    }
    return row | {key: " ".join(draw.sample(words, len(words))) for key, words in texts.items()}


class _Fields(Formatter):
    """`str.format` that shows a list as its words, one after the other."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        if isinstance(value, list):
            value = " ".join(map(str, value))
        return super().format_field(value, format_spec)


def _filled(template: str, row: Row) -> str:
    """A template with the fields of a row; `{choices[text][0]}` reaches into lists and mappings."""
    return _Fields().vformat(template, (), row)


def write_split(path: Path, rows: list[Row]) -> None:
    """Write examples as parquet."""
    write_with(path, lambda temporary: pq.write_table(pa.Table.from_pylist(rows), temporary))


def read_split(path: Path) -> list[Row]:
    """Read examples back.

    Raises:
        UserError: the file is missing or cut short.
    """
    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a whole parquet file ({error}): delete it and run again") from None
    return rows


def columns_of(folder: Path, split: str) -> list[str] | None:
    """The columns of a split of a local source, from its first lines; None if they are not to be had so."""
    file = _split_file(folder, split)
    kind = READERS[file.name.removesuffix(".gz")[len(split) :]]
    try:
        if kind == "parquet":
            return list(pq.read_schema(file).names)
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
            first = lines.readline()
        found = next(csv.reader([first])) if kind == "csv" else json.loads(first)
        return list(found) if kind == "csv" or isinstance(found, dict) else None
    except (OSError, ValueError, StopIteration, pa.ArrowException):
        # The data stage says what is wrong with it.
        return None


def _read_split(task: Task, split: str) -> Any:
    # Imported here: the other readers of this module, every merge among them, start a second sooner.
    from datasets import DownloadConfig, Image, disable_progress_bars, load_dataset

    disable_progress_bars()
    folder = Path(task.source)
    try:
        if folder.is_dir():
            file = _split_file(folder, split)
            kind = READERS[file.name.removesuffix(".gz")[len(split) :]]
            found = load_dataset(kind, data_files={split: str(file)}, split=split)
        elif folder.is_absolute():
            raise UserError(f"{folder}: no such folder")
        else:
            found = load_dataset(
                task.source,
                task.subset,
                split=split,
                revision=task.revision,
                download_config=DownloadConfig(disable_tqdm=True),
            )
        if task.image and isinstance(found.features.get(task.image), Image):
            found = found.cast_column(task.image, Image(decode=False))
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())[:200]
        raise UserError(
            f"{task.source}: split {split!r} cannot be read ({cause}): a local folder of "
            f"{split}.jsonl, .csv or .parquet can stand in for a hub dataset"
        ) from None
    return found


def _bytes(image: Any) -> Any:
    """The file of an image, as `datasets` keeps it: its bytes, or where they lie."""
    if not isinstance(image, dict):
        return image
    return image["bytes"] if image.get("bytes") is not None else Path(image["path"]).read_bytes()


def _split_file(folder: Path, split: str) -> Path:
    endings = [ending + gz for ending in READERS for gz in ("", ".gz")]
    for ending in endings:
        if (folder / f"{split}{ending}").is_file():
            return folder / f"{split}{ending}"
    raise UserError(f"{folder}: no file {split} with an ending of {', '.join(endings)}")
