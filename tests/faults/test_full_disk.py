"""A disk without room: one line and status 2, whatever the stage, and nothing half-written."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.small import CONFIG, RUN
from faults.test_readonly import STAGES

from remerge.__main__ import main

# The finished run has not all figures, without which no page is begun.
WRITING = [stage for stage in STAGES if stage[0] not in ("compare", "report")] + [["lengths", CONFIG]]

GROWING = ("journal", "training")
"""What the next run goes on from; a part of it that is not whole is dropped there."""


@pytest.fixture(scope="module")
def disk(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run without its journals, on a disk that is as large as it and no larger."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {made.stderr.decode().strip()}")
    try:
        shutil.copytree(finished / "results", folder / "results")
        shutil.rmtree(folder / RUN / "journal")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError:
            pass
    return filler


def test_no_run_begins_on_a_full_disk(disk: Path) -> None:
    """Snakemake's own locks and logs would have no room, which it says in a traceback."""
    filler = fill(disk)
    try:
        begun = [sys.executable, "-m", "remerge", "run", CONFIG]
        done = subprocess.run(begun, cwd=disk, capture_output=True, text=True)
    finally:
        filler.unlink()
    said = "remerge: cannot write into .snakemake: No space left on device"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, said), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", WRITING, ids=lambda command: command[0])
def test_a_full_disk_is_said_in_one_line(
    disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, command: list[str]
) -> None:
    monkeypatch.chdir(disk)
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    filler = fill(disk)
    status = main(command)
    filler.unlink()
    said = [line[line.find("remerge: ") :] for line in capsys.readouterr().err.splitlines()]
    said = [line for line in said if line.startswith("remerge: ")]
    assert status == 2 and len(said) == 1, said
    assert "No space left on device" in said[0] and str(RUN) in said[0], said
    for folder in GROWING:
        shutil.rmtree(RUN / folder, ignore_errors=True)
    after = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    for path in before.keys() - after.keys():
        path.write_bytes(before[path])
    # A file's note goes before the file is made anew: what is there is whole, and as it was.
    assert after.items() <= before.items(), after.keys() - before.keys()
