"""Journals: what a killed run keeps."""

import json

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
