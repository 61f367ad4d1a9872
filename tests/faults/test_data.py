"""Local data as people have them: each odd file is read as it is meant, or refused in one line."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remerge.config import Task
from remerge.errors import UserError
from remerge.splits import make_splits
from remerge.tasks import Row, pairs

N = 12
ROWS: list[Row] = [{"text": f"number {i}", "label": i % 2} for i in range(N)]
CELLS = [f"number {i},{i % 2}" for i in range(N)]


def lines(rows: list[Row], encoding: str = "utf-8") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)


def odd(**changed: Any) -> list[Row]:
    """One example that is not like the others."""
    return [{**row, **changed} if i == 3 else row for i, row in enumerate(ROWS)]


def every(make: Callable[[Row], Any], key: str = "text") -> list[Row]:
    return [{**row, key: make(row)} for row in ROWS]


def cells(*last: str, head: str = "text,label", encoding: str = "utf-8") -> bytes:
    """A CSV file whose last lines are others."""
    return "\n".join([head, *CELLS[: N - len(last)], *last, ""]).encode(encoding)


def parquet(rows: list[Row], schema: pa.Schema | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return bytes(sink.getvalue())


def mapped(column: str) -> bytes:
    """A file of which a column has a type of Arrow alone."""
    kinds = {"text": pa.string(), "label": pa.int64(), column: pa.map_(pa.string(), pa.int64())}
    return parquet([{**row, column: [("key", 1)]} for row in ROWS], pa.schema(kinds))


READ: dict[str, tuple[str, bytes, str]] = {
    "a byte order mark": (".jsonl", lines(ROWS, "utf-8-sig"), "number 3"),
    "an empty text": (".jsonl", lines(odd(text="")), ""),
    "a text of white space": (".jsonl", lines(odd(text=" \t")), " \t"),
    "a label in quotes": (".jsonl", lines(odd(label="1")), "number 3"),
    "a number as a text": (".jsonl", lines(odd(text=5)), "5"),
    "one more column in one row": (".jsonl", lines(odd(more="x")), "number 3"),
    "blank lines": (".jsonl", lines(ROWS).replace(b"\n", b"\n\n"), "number 3"),
    "a huge row": (".jsonl", lines(odd(text="x " * 1_000_000)), "x " * 1_000_000),
    "labels with a point": (".jsonl", lines(every(lambda row: float(row["label"]), "label")), "number 3"),
    "labels as truths": (".jsonl", lines(every(lambda row: bool(row["label"]), "label")), "number 3"),
    "one array": (".json", json.dumps(ROWS).encode(), "number 3"),
    "a byte order mark before the head": (".csv", cells(encoding="utf-8-sig"), "number 3"),
    "quotes, commas, line ends in a cell": (".csv", cells('"a, ""b""\nc",1'), 'a, "b"\nc'),
    "the word None": (".csv", cells("None,1"), "None"),
    "the word NA": (".csv", cells("NA,1"), "NA"),
    "figures that begin with 0": (".csv", cells("007,1"), "007"),
    "row names, as pandas writes them": (
        ".csv",
        "\n".join([",text,label", *(f"{i},{cell}" for i, cell in enumerate(CELLS))]).encode(),
        "number 3",
    ),
    "a comma at each end": (
        ".csv",
        "\n".join(["text,label", *(f"{c}," for c in CELLS)]).encode(),
        "number 3",
    ),
    "line ends of Windows": (".csv", cells().replace(b"\n", b"\r\n"), "number 3"),
    "line ends of old Macs": (".csv", cells("007,1").replace(b"\n", b"\r"), "007"),
    "an empty first line": (".csv", b"\r\n" + cells("NA,1"), "NA"),
    "a line end in the head": (".csv", cells("007,1", head='text,label,"more\nof it"'), "007"),
    "packed": (".csv.gz", gzip.compress(cells("007,1")), "007"),
    "packed parquet": (".parquet.gz", gzip.compress(parquet(ROWS)), "number 3"),
    "a map that nobody asks for": (".parquet", mapped("more"), "number 3"),
}

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "no text": (".jsonl", lines(odd(text=None)), "example 4 has nothing in text"),
    "no label": (".jsonl", lines(odd(label=None)), "example 4 has nothing in label"),
    "no key": (".jsonl", lines([*ROWS[:3], {"label": 1}, *ROWS[4:]]), "example 4 has nothing in text"),
    "no text in a list": (".jsonl", lines(every(lambda _: ["a", None])), "has nothing in text"),
    "a mapping as a text": (".jsonl", lines(every(lambda _: {"a": "b"})), "a dict instead of a text"),
    "Latin-1": (".jsonl", lines(odd(text="café"), "latin-1"), "train.jsonl: not UTF-8 in line 4: save"),
    "UTF-16": (".jsonl", lines(ROWS, "utf-16"), "train.jsonl: not UTF-8 in line 1: save"),
    "UTF-16 without a mark": (".jsonl", lines(ROWS, "utf-16-le"), "not UTF-8, perhaps UTF-16: save"),
    "a broken line": (".jsonl", lines(ROWS) + b'{"text": "x", \n', "train.jsonl: incomplete or damaged"),
    "rows that are lists": (".jsonl", b"[1, 2]\n[3, 4]\n", "train.jsonl: incomplete or damaged"),
    "a key twice in a row": (
        ".jsonl",
        lines(ROWS).replace(b'"label": 0', b'"label": 1, "label": 0', 1),
        "specified twice",
    ),
    "an empty file": (".jsonl", b"", "train.jsonl is empty"),
    "Latin-1 in CSV": (".csv", cells("café,1", encoding="latin-1"), "train.csv: not UTF-8 in line 13"),
    "UTF-16 in CSV": (".csv", cells(encoding="utf-16"), "train.csv: not UTF-8 in line 1"),
    "an open quote": (".csv", cells('"a,1'), "train.csv: incomplete or damaged"),
    "a row too long": (".csv", cells("a,b,1"), "train.csv: incomplete or damaged"),
    "a row too short": (".csv", cells("a"), "example 12 has nothing in label"),
    "an empty cell": (".csv", cells(",1"), "example 12 has nothing in text"),
    "an empty label": (".csv", cells("x,"), "example 12 has nothing in label"),
    "another label": (".csv", cells("x,yes"), "example 12: label 'yes' has no answer"),
    "semicolons": (".csv", cells(head="text;label").replace(b",", b";"), "no column 'text'"),
    "a space in the head": (".csv", cells(head="text, label"), "no column 'label'"),
    "no head": (".csv", "\n".join(CELLS).encode(), "no column 'text'"),
    "two heads alike": (".csv", cells(head="text,text"), "two columns have the name 'text'"),
    "row names without a head": (
        ".csv",
        "\n".join(["text,label", *(f"r{i},{cell}" for i, cell in enumerate(CELLS))]).encode(),
        "train.csv: incomplete or damaged",
    ),
    "a comma without quotes in every row": (
        ".csv",
        "\n".join(["label,text", *(f"{i % 2},number, {i}" for i in range(N))]).encode(),
        "train.csv: incomplete or damaged (Length of header",
    ),
    "packed and cut short": (".jsonl.gz", gzip.compress(lines(ROWS))[:-20], "train.jsonl.gz: cannot be read"),
    "not packed": (".jsonl.gz", lines(ROWS), "train.jsonl.gz: cannot be read"),
    "packed Latin-1": (".jsonl.gz", gzip.compress(lines(odd(text="é"), "latin-1")), "not UTF-8 in line 4"),
    "no text in parquet": (".parquet", parquet(odd(text=None)), "example 4 has nothing in text"),
    "a label that is no number": (
        ".parquet",
        parquet([{**row, "label": float(row["label"])} for row in odd(label="nan")]),
        "example 4 has nothing in label",
    ),
    "a map as a text": (".parquet", mapped("text"), "column 'text' is a map<string, int64"),
    "parquet cut short": (".parquet", parquet(ROWS)[:60], "train.parquet: incomplete or damaged"),
    "packed parquet cut short": (
        ".parquet.gz",
        gzip.compress(parquet(ROWS))[:-20],
        "train.parquet.gz: incomplete or damaged",
    ),
    "parquet without rows": (
        ".parquet",
        parquet([], pa.schema({"text": pa.string(), "label": pa.int64()})),
        "nothing left for test in split 'train'",
    ),
    "bytes as a text": (
        ".parquet",
        parquet(every(lambda row: row["text"].encode())),
        "a bytes instead of a text",
    ),
}


def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, data: bytes, **more: Any) -> Task:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / f"train{ending}").write_bytes(data)
    given = {
        "source": str(tmp_path),
        "prompt": "{text}",
        "answers": ["no", "yes"],
        "splits": dict.fromkeys(("train", "validation", "test"), "train"),
        "sizes": {"train": 4, "validation": 4, "test": 4},
    }
    return Task.model_validate(given | more)


@pytest.mark.parametrize("name", READ)
def test_it_is_read_as_it_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ending, data, text = READ[name]
    task = asked(tmp_path, monkeypatch, ending, data)
    made = make_splits("t", task, 0).rows
    prompts = [prompt for rows in made.values() for prompt, _ in pairs("t", task, rows, speaks=True)]
    assert len(prompts) == N and text in prompts


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ending, data, words = REFUSED[name]
    with pytest.raises(UserError) as error:
        make_splits("t", asked(tmp_path, monkeypatch, ending, data), 0)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["no text", "no label", "no key", "an empty cell", "no text in parquet"])
def test_or_left_out_where_the_task_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ending, data, _ = REFUSED[name]
    sizes = {"train": 3, "validation": 4, "test": 4}
    made = make_splits("t", asked(tmp_path, monkeypatch, ending, data, missing="drop", sizes=sizes), 0)
    assert made.dropped == 1
    texts = {row["text"] for rows in made.rows.values() for row in rows}
    assert len(texts) == N - 1 and None not in texts


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
@pytest.mark.parametrize("labels", [[False, True], ["false", "true"]])
@pytest.mark.parametrize("written", ["false,true", "False,True", "FALSE,TRUE"])
def test_switches_are_labels_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, labels: list[Any], written: str
) -> None:
    rows = every(lambda row: written.split(",")[row["label"]], "label")
    csv = "\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in rows)]).encode()
    if ending == ".jsonl" and written == "false,true":
        rows = every(lambda row: bool(row["label"]), "label")
    task = asked(tmp_path, monkeypatch, ending, {".csv": csv, ".jsonl": lines(rows)}[ending], labels=labels)
    made = make_splits("t", task, 0).rows["train"]
    said = [answer for _, answer in pairs("t", task, made, speaks=True)]
    assert said == ["yes" if int(row["text"].split()[1]) % 2 else "no" for row in made]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_split_of_two_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    task = asked(tmp_path, monkeypatch, ".jsonl", lines(ROWS))
    (tmp_path / f"train{ending}").write_bytes(cells() if ending == ".csv" else parquet(ROWS))
    with pytest.raises(
        UserError, match=rf"several files of one split, train.jsonl, train{ending}: leave one"
    ):
        make_splits("t", task, 0)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", [int, bool, str])
def test_labels_are_the_same_as_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, kind: type
) -> None:
    rows = every(lambda row: kind(row["label"]), "label")
    csv = "\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in rows)]).encode()
    data = {".csv": csv, ".jsonl": lines(rows), ".parquet": parquet(rows)}[ending]
    task = asked(tmp_path, monkeypatch, ending, data, labels=[str(kind(1)), str(kind(0))])
    made = make_splits("t", task, 0).rows["train"]
    said = [answer for _, answer in pairs("t", task, made, speaks=True)]
    assert said == ["no" if int(row["text"].split()[1]) % 2 else "yes" for row in made]
