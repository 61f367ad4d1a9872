"""Files of a finished run that are not as they were written: refused by name, harmless, or computed again.

Never a traceback, and never other numbers.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.small import CONFIG, LEARNED, RUN, TABLES

from remerge.__main__ import main


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def bit(data: bytes) -> bytes:
    place = 2 * len(data) // 3
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def zeros(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes(16) + data[place + 16 :]


def latin(data: bytes) -> bytes:
    return data.replace(b'": "', b'": "\xe9', 1)


def blank(data: bytes) -> bytes:
    return b"\n" + data


def of_lines(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """A change of the last JSON document of a file, which may be its only one."""

    def changed(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True) if data.startswith(b'{"') else [data]
        return b"".join([*lines[:-1], json.dumps(change(json.loads(lines[-1]))).encode() + b"\n"])

    return changed


def leaf(value: Any, change: Callable[[Any], Any]) -> Any:
    """A document with its first number changed."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            new = leaf(part, change)
            if new is not part:
                return {**value, key: new} if isinstance(value, dict) else [new, *value[1:]]
        return value
    return change(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def without(value: Any) -> Any:
    return {key: value[key] for key in list(value)[1:]}


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut": cut,
    "empty": empty,
    "bit": bit,
    "zeros": zeros,
}
TOLD: dict[str, Callable[[bytes], bytes]] = BROKEN | {
    "latin": latin,
    "a list": of_lines(lambda value: [value]),
    "a key less": of_lines(without),
    "NaN": of_lines(lambda value: leaf(value, lambda x: float("nan"))),
    "another number": of_lines(lambda value: leaf(value, lambda x: x + 1)),
    "a word for a number": of_lines(lambda value: leaf(value, str)),
}
"""What can be done to a file of bytes, and to one of JSON."""

MERGE = {name: ["merges", name, "2"] for name in ("average", "fisher", LEARNED)}
READERS: list[tuple[str, list[str], dict[str, Callable[[bytes], bytes]]]] = [
    ("base.json", MERGE["average"], TOLD),
    ("experts/cola.json", MERGE["average"], TOLD),
    ("scores/cola.json", MERGE["average"], TOLD),
    (f"selection/{LEARNED}.json", MERGE[LEARNED], TOLD),
    ("merges/average/2.jsonl", TABLES["pairs"], TOLD | {"blank": blank}),
    ("data/cola/test.parquet.json", MERGE["average"], BROKEN),
    ("references/cola.safetensors.json", MERGE[LEARNED], BROKEN),
    ("statistics/cola/fisher.safetensors.json", MERGE["fisher"], BROKEN),
    ("journal/merges/average/2.jsonl", MERGE["average"], TOLD | {"blank": blank}),
    ("journal/scores/cola.jsonl", ["scores"], TOLD | {"blank": blank}),
    (f"journal/selection/subsets/{LEARNED}.jsonl", ["selection", LEARNED, "subsets"], BROKEN),
    ("base/model.safetensors", MERGE["average"], BROKEN),
    ("base/config.json", MERGE["average"], BROKEN),
    ("base/tokenizer.json", MERGE["average"], BROKEN),
    ("experts/cola/config.json", MERGE["average"], BROKEN),
    ("references/cola.safetensors", MERGE[LEARNED], BROKEN),
    ("references/cola.safetensors", ["divergences"], {"bit": bit}),
    ("statistics/cola/fisher.safetensors", MERGE["fisher"], BROKEN),
    ("data/cola/test.parquet", MERGE["average"], BROKEN),
    ("data/cola/train.parquet", ["experts", "cola"], {"bit": bit}),
    ("data/cola/validation.parquet", ["references", "cola"], {"bit": bit}),
    *(
        ("experts/cola/model.safetensors", command, {"bit": bit})
        for command in (
            ["divergences"],
            ["exports", "average", "cola+mnli+sst2"],
            ["batch", "average"],
            MERGE["average"],
            ["references", "cola"],
            ["statistics", "cola", "fisher"],
            ["scores"],
            ["weights"],
            ["alignment"],
            ["selection", LEARNED, "subsets"],
        )
    ),
]
"""A file, a stage that reads it, and what is done to it."""

SWAPPED = [
    ("experts/mnli.json", "experts/cola.json", MERGE["average"]),
    ("experts/mnli/model.safetensors", "experts/cola/model.safetensors", MERGE["average"]),
    ("scores/mnli.json", "scores/cola.json", MERGE["average"]),
    ("data/mnli/test.parquet", "data/cola/test.parquet", MERGE["average"]),
    ("data/cola/train.parquet", "data/cola/test.parquet", MERGE["average"]),
    ("references/mnli.safetensors", "references/cola.safetensors", MERGE[LEARNED]),
    ("statistics/mnli/fisher.safetensors", "statistics/cola/fisher.safetensors", MERGE["fisher"]),
    ("merges/fisher/2.jsonl", "merges/average/2.jsonl", TABLES["pairs"]),
    ("journal/merges/fisher/2.jsonl", "journal/merges/average/2.jsonl", MERGE["average"]),
]
"""A file put in the place of another, with the note beside it where it has one, and a stage that reads it."""


def numbers(folder: Path) -> dict[str, Any]:
    """All that a run's records and tables say, but what was measured."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in (folder / RUN).rglob("*.*") if path.is_file()):
        place = str(path.relative_to(folder / RUN))
        if place.startswith(("merges", "scores", "selection", "divergences", "weights", "alignment")):
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
            found[place] = [json.loads(line) | {"seconds": None, "memory": None} for line in lines]
        elif place.endswith((".csv", ".safetensors", ".safetensors.json")):
            found[place] = path.read_bytes()
    return found


class Family:
    """What became of each corruption."""

    def __init__(self, finished: Path, scratch: Path, patch: pytest.MonkeyPatch, capture: Any) -> None:
        self.finished, self.scratch, self.patch, self.capture = finished, scratch, patch, capture
        self.expected = numbers(finished)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def copy(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.copytree(self.finished, self.scratch)
        self.patch.chdir(self.scratch)

    def judge(self, name: str, file: str, command: list[str]) -> None:
        """Run a stage on what was spoilt, without its journal unless that was spoilt itself."""
        if not file.startswith("journal"):
            shutil.rmtree(RUN / "journal")
        before = (RUN / file).read_bytes()
        self.capture.readouterr()
        try:
            status = main([command[0], CONFIG, *command[1:]])
        except BaseException as error:
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")
            self.counts["traceback"] += 1
            return
        said = [x for x in self.capture.readouterr().err.splitlines() if x.startswith("remerge: ")]
        if status == 2:
            named = len(said) == 1 and (Path(file).name in said[0] or file.split("/")[0] in said[0])
            self.counts["refused"] += named
            self.wrong += [] if named and ": " in said[0] else [f"{name}: {said}"]
            return
        now = numbers(self.scratch)
        rewritten = (RUN / file).read_bytes() != before
        same = all(now[k] == v for k, v in self.expected.items() if rewritten or k != file)
        self.wrong += [] if status == 0 and same else [f"{name}: status {status}, other numbers"]
        self.counts[("computed again" if said else "harmless") if same else "other numbers"] += 1


def test_no_corruption_is_used(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    record_property: Callable[[str, object], None],
) -> None:
    family = Family(finished, tmp_path / "run", monkeypatch, capsys)
    for file, command, ways in READERS:
        for how, spoil in ways.items():
            family.copy()
            data = (RUN / file).read_bytes()
            assert spoil(data) != data, (file, how)
            (RUN / file).write_bytes(spoil(data))
            family.judge(f"{file}, {how}, {' '.join(command)}", file, command)
    for other, file, command in SWAPPED:
        family.copy()
        shutil.copy(RUN / other, RUN / file)
        if (RUN / f"{other}.json").exists():
            shutil.copy(RUN / f"{other}.json", RUN / f"{file}.json")
        family.judge(f"{other} as {file}", file, command)
    total = sum(family.counts.values())
    record_property("corruptions", f"{total}: {dict(family.counts)}")
    assert not family.wrong and total >= 100, (dict(family.counts), family.wrong)
