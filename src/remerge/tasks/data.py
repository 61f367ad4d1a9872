"""A task's examples: fetched, split, checked, and turned into prompts and answers."""

import random
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from remerge.config import Config, Task
from remerge.errors import UserError
from remerge.files import write_with
from remerge.tasks.miniature.glue import examples

Kind = Literal["train", "validation", "test"]
SPLITS: tuple[Kind, ...] = get_args(Kind)
READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}

Row = dict[str, Any]


def make_data(config: Config, task: str) -> None:
    """Write the splits of one task (`python -m remerge data`)."""
    for split, rows in make_splits(task, config.task(task), config.seed).items():
        write_split(data_file(config.folder, task, split), rows)


def data_file(folder: Path, task: str, split: str) -> Path:
    """Where a split of a benchmark lies."""
    return folder / "data" / task / f"{split}.parquet"


def make_splits(name: str, task: Task, seed: int) -> dict[str, list[Row]]:
    """The train, validation and test examples of a task, no example in two of them.

    Where one split of the source serves several of ours it is shuffled by the seed and cut: test first, then
    validation, then train.

    Raises:
        UserError: the source is out of reach, a split, column or label is not there, or a split ends empty.
    """
    if task.source == "miniature":
        sizes = task.sizes.model_dump()
        return {split: examples(name, split, sizes[split], seed) for split in SPLITS}
    pools: dict[str, list[Row]] = {}
    made = {}
    for split in reversed(SPLITS):
        origin = getattr(task.splits, split)
        if origin not in pools:
            pools[origin] = _read_split(task, origin).to_list()
            random.Random(f"{seed}/{name}/{origin}").shuffle(pools[origin])
        size = getattr(task.sizes, split)
        made[split], pools[origin] = pools[origin][:size], pools[origin][size:]
        if not made[split]:
            raise UserError(f"tasks.{name}: nothing left for {split} in split {origin!r} of {task.source}")
    for split, rows in made.items():
        texts(f"tasks.{name}: {split}", task, rows)
    return {split: made[split] for split in SPLITS}


def texts(where: str, task: Task, rows: list[Row]) -> list[tuple[str, str]]:
    """The prompt and the answer in words of every example.

    Raises:
        UserError: a column of the prompt is missing, or a label is outside the declared answers.
    """
    pairs = []
    for row in rows:
        try:
            prompt = task.prompt.format(**row)
            label = row[task.target]
        except KeyError as missing:
            columns = ", ".join(row)
            raise UserError(
                f"{where}: no column {missing} (there are: {columns}): see prompt and target"
            ) from None
        if not isinstance(label, int) or not 0 <= label < len(task.answers):
            raise UserError(f"{where}: label {label!r} has no answer: answers takes one word for each label")
        pairs.append((prompt, task.answers[label]))
    return pairs


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


def _read_split(task: Task, split: str) -> Any:
    # Imported here: the other readers of this module, every merge among them, start a second sooner.
    from datasets import DownloadConfig, disable_progress_bars, load_dataset

    disable_progress_bars()
    folder = Path(task.source)
    try:
        if folder.is_dir():
            file = _split_file(folder, split)
            kind = READERS[file.name.removesuffix(".gz")[len(split) :]]
            return load_dataset(kind, data_files={split: str(file)}, split=split)
        if folder.is_absolute():
            raise UserError(f"{folder}: no such folder")
        return load_dataset(
            task.source,
            task.subset,
            split=split,
            revision=task.revision,
            download_config=DownloadConfig(disable_tqdm=True),
        )
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = " ".join(str(error).split())[:200]
        raise UserError(
            f"{task.source}: split {split!r} cannot be read ({cause}): a local folder of "
            f"{split}.jsonl, .csv or .parquet can stand in for a hub dataset"
        ) from None


def _split_file(folder: Path, split: str) -> Path:
    endings = [ending + gz for ending in READERS for gz in ("", ".gz")]
    for ending in endings:
        if (folder / f"{split}{ending}").is_file():
            return folder / f"{split}{ending}"
    raise UserError(f"{folder}: no file {split} with an ending of {', '.join(endings)}")
