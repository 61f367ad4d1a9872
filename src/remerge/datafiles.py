"""The sources of a task's examples: files as people have them, or a dataset on the hub."""

import codecs
import csv
import gzip
import json
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from remerge.config import Task
from remerge.errors import UserError

READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}


def columns_of(folder: Path, split: str) -> list[str] | None:
    """The columns of a split of a local source, from its first lines; None if these do not show them."""
    file, kind = _split_file(folder, split)
    try:
        if kind == "parquet":
            return list(pq.read_schema(file).names)
        with _opened(file) as lines:
            first = lines.readline().decode("utf-8-sig")
        found = next(csv.reader([first])) if kind == "csv" else json.loads(first)
        return list(found) if kind == "csv" or isinstance(found, dict) else None
    except (OSError, EOFError, zlib.error, ValueError, StopIteration, csv.Error, pa.ArrowException):
        # The data stage says what is wrong with it.
        return None


def read_source(task: Task, split: str) -> Any:
    """A split of a task's source, a local folder or a dataset on the hub, as a dataset of `datasets`.

    Raises:
        UserError: it is out of reach, incomplete or damaged, or not UTF-8 text.
    """
    # Imported here: other users of this module, including every merge, start a second sooner.
    from datasets import DownloadConfig, Image, disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()
    folder = Path(task.source)
    try:
        if folder.is_dir():
            found = _read_file(*_split_file(folder, split), split)
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
    except (DatasetsError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(
            f"{task.source}: split {split!r} cannot be read ({cause}): a local folder of "
            f"{split}.jsonl, .csv or .parquet can stand in for a hub dataset"
        ) from None
    return found


def _read_file(file: Path, kind: str, split: str) -> Any:
    """The examples of a local file; the cells of a CSV file stay texts.

    Raises:
        UserError: it is incomplete or damaged, or not UTF-8 text.
    """
    from datasets import Features, Value, load_dataset
    from datasets.exceptions import DatasetsError

    how: dict[str, Any] = {}
    if kind != "parquet":
        _check_text(file)
    if kind == "csv" and (columns := columns_of(file.parent, split)):
        # Otherwise 007 becomes 7, the words NA and None become missing, and a column without a head row
        # names.
        if twice := [column for column in columns if column and columns.count(column) > 1]:
            raise UserError(f"{file}: two columns have the name {twice[0]!r}: rename one")
        texts = Features({column: Value("string") for column in columns if column})
        how = {"features": texts, "keep_default_na": False, "na_values": [""], "index_col": False}
    try:
        with warnings.catch_warnings():
            # A row with more cells than heads would lose its last ones.
            warnings.filterwarnings("error", "Length of header")
            return load_dataset(kind, data_files={split: str(file)}, split=split, **how)
    except (DatasetsError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        cause = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"{file}: incomplete or damaged ({cause}): correct the file") from None


def _check_text(file: Path) -> None:
    """Refuse a file that is not text, naming the first line that is not."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    try:
        with _opened(file) as data:
            while piece := data.read(1 << 20):
                line += decoder.decode(piece).count("\n")
                if b"\0" in piece:
                    raise UserError(f"{file}: not UTF-8, perhaps UTF-16: save it in that encoding")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        raise UserError(f"{file}: not UTF-8 in line {line}: save it in that encoding") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: cannot be read ({error}): give the complete file") from None
    if not file.stat().st_size:
        raise UserError(f"{file} is empty: write one example per line")


def _opened(file: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _split_file(folder: Path, split: str) -> tuple[Path, str]:
    """The file of a split, and its kind."""
    endings = [ending + gz for ending in READERS for gz in ("", ".gz")]
    for ending in endings:
        if (folder / f"{split}{ending}").is_file():
            return folder / f"{split}{ending}", READERS[ending.removesuffix(".gz")]
    raise UserError(f"{folder}: no file {split} ending in {', '.join(endings)}: add one")
