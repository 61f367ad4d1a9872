"""Splits from local files in every format, and what is refused."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remerge.config import Task
from remerge.errors import UserError
from remerge.tasks.data import make_splits, read_split, texts, write_split

ROWS = [{"sentence": f"number {i}", "label": i % 2, "idx": i} for i in range(50)]


def task(folder, **changes):
    given = {
        "source": str(folder),
        "prompt": "odd? {sentence} :",
        "answers": ["even", "odd"],
        "splits": {"train": "train", "validation": "train", "test": "dev"},
        "sizes": {"train": 30, "validation": 5, "test": 7},
    }
    return Task.model_validate(given | changes)


def write(folder, split, ending, rows):
    path = folder / f"{split}{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == ".csv":
        lines = ["sentence,label,idx"] + [f"{r['sentence']},{r['label']},{r['idx']}" for r in rows]
        path.write_text("\n".join(lines) + "\n")
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)


@pytest.fixture(params=[".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def folder(request, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "train", request.param, ROWS[:40])
    write(tmp_path, "dev", request.param, ROWS[40:])
    return tmp_path


def test_splits_are_disjoint_seeded_and_of_the_asked_sizes(folder):
    made = make_splits("parity", task(folder), seed=1)
    assert {split: len(rows) for split, rows in made.items()} == {"train": 30, "validation": 5, "test": 7}
    ids = {split: {row["idx"] for row in rows} for split, rows in made.items()}
    assert not ids["train"] & ids["validation"]
    assert ids["test"] <= set(range(40, 50))
    assert make_splits("parity", task(folder), seed=1) == made
    assert make_splits("parity", task(folder), seed=2) != made


def test_prompts_and_answers(folder):
    row = make_splits("parity", task(folder), seed=1)["test"][0]
    assert texts("here", task(folder), [row]) == [
        (f"odd? {row['sentence']} :", ["even", "odd"][row["label"]])
    ]


def test_parquet_round_trip_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_split(tmp_path / f"{name}.parquet", ROWS)
    assert read_split(tmp_path / "a.parquet") == ROWS
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:100])
    with pytest.raises(UserError, match="not a whole parquet file"):
        read_split(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "{text} :"}, "no column 'text'"),
        ({"target": "gold"}, "no column 'gold'"),
        ({"answers": ["no", "yes"], "target": "idx"}, "has no answer"),
        ({"splits": {"train": "train", "validation": "train", "test": "exam"}}, "no file exam"),
        ({"sizes": {"train": 30, "validation": 40, "test": 7}}, "nothing left for train"),
        ({"source": "/nowhere"}, "/nowhere: no such folder"),
    ],
)
def test_wrong_data_gets_one_line(tmp_path, monkeypatch, changes, words):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write(tmp_path, "train", ".jsonl", ROWS[:40])
    write(tmp_path, "dev", ".jsonl", ROWS[40:])
    with pytest.raises(UserError, match=words):
        make_splits("parity", task(tmp_path, **changes), seed=0)
