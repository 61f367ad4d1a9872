"""Journals: what a killed run keeps, and what of a spoilt one is computed again."""

import json

import pytest
from pydantic import FiniteFloat

from remerge.errors import UserError
from remerge.journal import Journal


def test_records_are_computed_once_and_found_again(tmp_path):
    path, calls = tmp_path / "deep" / "j.jsonl", []

    def compute():
        calls.append(1)
        return {"value": 0.1 + 0.2}

    assert Journal(path).recall("a", compute) == {"value": 0.1 + 0.2}
    assert Journal(path).recall("a", compute) == {"value": 0.1 + 0.2}
    assert Journal(path).recall("b", compute) == {"value": 0.1 + 0.2}
    assert len(calls) == 2


def test_a_line_cut_short_by_a_kill_is_computed_again(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).recall("a", lambda: 1)
    Journal(path).recall("b", lambda: 2)
    path.write_bytes(path.read_bytes()[:-5])
    journal = Journal(path)
    assert journal.recall("a", lambda: -1) == 1
    assert journal.recall("b", lambda: 3) == 3
    assert [json.loads(line)["record"] for line in path.read_text().splitlines()] == [1, 3]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: b"\n",
        lambda line: bytes(len(line)) + b"\n",
        lambda line: line.replace(b"2.5", b"2.7"),
        lambda line: line.replace(b"2.5", b"NaN"),
        lambda line: line.replace(b"2.5", b"1e999"),
        lambda line: line.replace(b"2.5", b'"2.5"'),
        lambda line: line.replace(b'"b"', b'"\xe9"'),
        lambda line: line.replace(b'"key"', b'"kye"'),
        lambda line: b"[" * 100_000 + b"\n",
        lambda line: b"[1]\n",
        lambda line: line[:20] + b"\n",
    ],
)
def test_a_spoilt_line_is_dropped_and_computed_again(tmp_path, capsys, spoil):
    path = tmp_path / "j.jsonl"
    for key, value in (("a", 1.5), ("b", 2.5), ("c", 3.5)):
        Journal(path, FiniteFloat).recall(key, lambda value=value: value)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    spoilt = first + spoil(second) + third
    path.write_bytes(spoilt)
    journal = Journal(path, FiniteFloat)
    assert path.read_bytes() == spoilt  # it is mended when it is written
    said = "1 of 3 lines are incomplete or were altered: they will be computed again"
    assert capsys.readouterr().err == f"remerge: {path}: {said}\n"
    assert [journal.recall(key, lambda: 9.5) for key in "abc"] == [1.5, 9.5, 3.5]
    assert [json.loads(line)["record"] for line in path.read_text().splitlines()] == [1.5, 3.5, 9.5]
    Journal(path, FiniteFloat)
    assert not capsys.readouterr().err


def test_a_record_of_another_type_is_computed_again(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).recall("a", lambda: {"value": 1})
    assert Journal(path, FiniteFloat).recall("a", lambda: 2.5) == 2.5


def test_a_journal_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot (read|write) .*j\.jsonl: Not a directory"):
        Journal(tmp_path / "file" / "j.jsonl").recall("a", lambda: 1)


def test_shares_keep_files_of_their_own_and_the_whole_takes_them_in(tmp_path, capsys):
    path = tmp_path / "ties@density=0.1.jsonl"
    Journal(path).recall("a", lambda: 1)
    for share in (10, 2):
        journal = Journal(path, share=share)
        assert journal.recall("a", lambda: -1) == 1
        journal.recall(f"b{share}", lambda share=share: share)
    assert Journal(path, share=3).recall("b10", lambda: -1) == 10
    cut = path.with_name("ties@density=0.1~2.jsonl")
    cut.write_bytes(cut.read_bytes() + b'{"key": "c", ')
    Journal(path, share=3).recall("d", lambda: 4)  # what another is writing is not ours to say
    assert not capsys.readouterr().err
    whole = Journal(path)
    assert "ties@density=0.1~2.jsonl: 1 of 2 lines" in capsys.readouterr().err
    assert [whole.recall(key, lambda: 5) for key in ("a", "b2", "b10", "c", "d")] == [1, 2, 10, 5, 4]
    whole.settle()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert sorted(json.loads(line)["record"] for line in path.read_text().splitlines()) == [1, 2, 4, 5, 10]


def test_a_file_that_is_no_share_is_left_alone(tmp_path):
    stray = tmp_path / "j~2~copy.jsonl"
    stray.write_text("{}\n")
    path = tmp_path / "j.jsonl"
    Journal(path, share=1).recall("a", lambda: 1)
    journal = Journal(path)
    assert journal.recall("a", lambda: 2) == 1
    journal.settle()
    assert sorted(tmp_path.iterdir()) == sorted([path, stray])


def test_a_broken_line_that_nothing_needs_goes_when_the_journal_is_settled(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).recall("a", lambda: 1)
    path.write_bytes(path.read_bytes() + b"{}\n")
    journal = Journal(path)
    assert journal.recall("a", lambda: 2) == 1
    journal.settle()
    assert len(path.read_text().splitlines()) == 1
