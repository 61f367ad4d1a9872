"""The sources of a task's examples: files as people have them, or a dataset on the hub."""

import codecs
import gzip
import json
import warnings
import zlib
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from remerge.config import Task
from remerge.errors import UserError, cause_of

READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}

LOOKED_AT = 1000
"""The number of lines of a JSON file that show its columns."""


def columns_of(folder: Path, split: str) -> list[str] | None:
    """The columns of a split of a local source, from its first lines; None if these do not show them.

    Raises:
        UserError: it has no file, or several.
    """
    file, kind = _split_file(folder, split)
    try:
        if kind == "parquet":
            with _opened(file) as data:
                return list(pq.read_schema(data).names)
        if kind == "csv":
            return _heads(file)
        with _opened(file) as lines:
            first = [line.decode("utf-8-sig") for line in islice(lines, LOOKED_AT)]
        # An example may lack a key that others have.
        rows = [json.loads(line) for line in first if line.strip()]
        found = [*dict.fromkeys(key for row in rows for key in row)]
        return found if rows and all(isinstance(row, dict) for row in rows) else None
    except (OSError, EOFError, zlib.error, ValueError, TypeError, RecursionError, pa.ArrowException):
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
            found = _read_file(*_split_file(folder, split), task.columns)
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
        cause = cause_of(error.__cause__ or error)
        raise UserError(
            f"{task.source}: split {split!r} cannot be read ({cause}): a local folder of "
            f"{split}.jsonl, .csv or .parquet can stand in for a hub dataset"
        ) from None
    return found


def _read_file(file: Path, kind: str, asked: set[str]) -> Any:
    """The examples of a local file; the cells of a CSV file and the numbers of a JSON file stay texts.

    Raises:
        UserError: it is incomplete or damaged, or not UTF-8 text, or an asked column cannot be read.
    """
    from datasets import Dataset

    if kind != "parquet":
        _check_text(file)
    if kind == "json":
        return Dataset(_table(file, _read_json(file)))
    try:
        if kind == "csv":
            return Dataset(_read_csv(file))
        with _opened(file) as data:
            return Dataset(_known(file, pq.read_table(data), asked))
    except (OSError, EOFError, zlib.error, ValueError, RuntimeError, Warning, pa.ArrowException) as error:
        cause = cause_of(error.__cause__ or error)
        raise UserError(f"{file}: incomplete or damaged ({cause}): correct the file") from None


def _known(file: Path, table: pa.Table, asked: set[str]) -> pa.Table:
    """The columns of a table without those of types that `datasets` does not have, such as maps.

    Raises:
        UserError: one of them is asked.
    """
    from datasets import Features

    for field in table.schema:
        try:
            Features.from_arrow_schema(pa.schema([field.remove_metadata()]))
        except (ValueError, NotImplementedError):
            if field.name in asked:
                raise UserError(
                    f"{file}: column {field.name!r} is a {field.type}, which cannot be read: write texts, "
                    "numbers, or lists or structs of them"
                ) from None
            table = table.drop_columns(field.name)
    return table


def _read_csv(file: Path) -> pa.Table:
    """The columns of a CSV file that have a name, as texts.

    Raises:
        UserError: two have one name.
        ValueError, Warning: a row has more cells than heads, or a quotation has no end.
    """
    heads = _heads(file)
    if twice := [head for head in heads if head and heads.count(head) > 1]:
        raise UserError(f"{file}: two columns have the name {twice[0]!r}: rename one")
    with warnings.catch_warnings():
        # A row with more cells than heads would lose its last ones.
        warnings.filterwarnings("error", "Length of header")
        cells = _cells(file, header=0, names=[head or place for place, head in enumerate(heads)])
    return pa.table({h: pa.array(cells[h], pa.string(), from_pandas=True) for h in heads if h})


def _heads(file: Path) -> list[str]:
    """The names of a CSV file's columns, empty ones included."""
    first = _cells(file, header=None, nrows=1).iloc[0]
    return [head if isinstance(head, str) else "" for head in first]


def _cells(file: Path, **options: Any) -> Any:
    """The cells of a CSV file as texts, of which empty ones are missing."""
    import pandas as pd

    # Otherwise 007 becomes 7, the words NA and None missing, and a column without a head row names.
    options |= {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
    with _opened(file) as data:
        return pd.read_csv(data, **options)


def _read_json(file: Path) -> list[dict[str, Any]]:
    """The objects of a file, which is an array, or has one on each line; numbers stay as they are written.

    Arrow's own reader makes times of dates, and 7.0 of 7 in a column with 4.5.

    Raises:
        UserError: it is not JSON, or contains something else than objects.
    """
    # A missing number is written NaN.
    read = json.JSONDecoder(
        parse_int=str,
        parse_float=str,
        parse_constant=lambda name: None if name == "NaN" else name,
        object_pairs_hook=_object,
    ).decode
    with _opened(file) as data:
        text = data.read().decode("utf-8-sig")
    rows: list[Any] = []
    pieces = [text] if text.lstrip().startswith("[") else text.split("\n")
    for number, piece in enumerate(pieces):
        try:
            found = read(piece) if piece.strip() else []
        except (ValueError, RecursionError) as error:
            at = f"line {number + getattr(error, 'lineno', 1)}"
            raise UserError(f"{file}: incomplete or damaged in {at} ({error}): correct the file") from None
        rows += found if isinstance(found, list) else [found]
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: contains something else than objects: write one example per line")
    return rows


def _object(given: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """An object of its keys and values; None without any, as Arrow cannot store that.

    Raises:
        ValueError: a key is given twice.
    """
    found: dict[str, Any] = {}
    for key, value in given:
        if key in found:
            raise ValueError(f"{key!r} is specified twice")
        found[key] = value
    return found or None


def _table(file: Path, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as columns, of which each has one type.

    Raises:
        UserError: one has texts beside lists, or a text is half a character.
    """
    columns = {}
    for column in dict.fromkeys(key for row in rows for key in row):
        try:
            columns[column] = pa.array([row.get(column) for row in rows])
        except (pa.ArrowException, UnicodeEncodeError) as error:
            raise UserError(
                f"{file}: column {column!r} cannot be kept ({error}): write texts, or leave it out"
            ) from None
    return pa.table(columns)


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
    """The file of a split, and its kind.

    Raises:
        UserError: there is none, or more than one, of which any may be the one that is meant.
    """
    endings = [ending + gz for ending in READERS for gz in ("", ".gz")]
    there = [ending for ending in endings if (folder / f"{split}{ending}").is_file()]
    if not there:
        raise UserError(f"{folder}: no file {split} ending in {', '.join(endings)}: add one")
    if len(there) > 1:
        several = ", ".join(f"{split}{ending}" for ending in there)
        raise UserError(f"{folder}: several files of one split, {several}: leave one there")
    return folder / f"{split}{there[0]}", READERS[there[0].removesuffix(".gz")]
