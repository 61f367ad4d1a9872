"""Atomic writes."""

import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from remerge.errors import UserError, cause_of
from remerge.files import read_json, write_folder, write_json, write_text, write_with


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write .*a\.txt: No space left on device"):
        write_with(path, full)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_round_trip_and_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"a": [1, 0.5]})
    assert read_json(path) == {"a": [1, 0.5]}
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"is not JSON .*: download or save it again"):
        read_json(path)
    with pytest.raises(UserError, match=r"none\.json: No such file or directory: download or save it again"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_a_file_is_for_whom_the_user_s_mask_says(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "record", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_weights_are_for_whom_the_user_s_mask_says(tmp_path, mask):
    """Safetensors writes files that only their owner may read."""
    before = os.umask(mask)
    tensors = {"a": torch.zeros(2)}
    try:
        write_with(tmp_path / "one.safetensors", lambda file: save_file(tensors, file))
        write_folder(tmp_path / "model", lambda folder: save_file(tensors, folder / "two.safetensors"))
    finally:
        os.umask(before)
    for file in (tmp_path / "one.safetensors", tmp_path / "model" / "two.safetensors"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_longest_name(tmp_path):
    write_text(tmp_path / ("é" * 125 + ".json"), "x")
    write_folder(tmp_path / ("x" * 255), lambda folder: None)
    assert len([*tmp_path.iterdir()]) == 2


def test_a_link_to_a_folder_stays_and_leads_to_what_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    write_folder(tmp_path / "link", lambda folder: write_text(folder / "a.txt", "one"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "a.txt").read_text() == "one"
    assert len([*tmp_path.iterdir()]) == 2


def test_what_a_library_says_is_part_of_one_line_and_an_error_without_words_is_named_by_its_kind():
    assert cause_of(ValueError("no head\n  was found")) == "no head was found"
    assert cause_of(OSError()) == "OSError"
