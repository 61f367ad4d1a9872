"""A results folder that cannot be written: one line and status 2, whatever the stage."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.small import CONFIG, LEARNED, RUN

from remerge.__main__ import main

NOBODY = 65534
STAGES = [
    ["base", CONFIG],
    ["data", CONFIG, "cola"],
    ["experts", CONFIG, "cola"],
    ["references", CONFIG, "cola"],
    ["statistics", CONFIG, "cola", "fisher"],
    ["scores", CONFIG],
    ["divergences", CONFIG],
    ["weights", CONFIG],
    ["alignment", CONFIG],
    ["selection", CONFIG, LEARNED, "subsets"],
    ["merges", CONFIG, "average", "2"],
    ["batch", CONFIG, "average"],
    ["exports", CONFIG, "average", "cola+mnli+sst2"],
    ["tables", CONFIG, "pairs"],
    ["figures", CONFIG, "reached"],
    ["report", CONFIG],
    ["compare", str(RUN), "--out", str(RUN / "tables/compare.html")],
]


@pytest.fixture(scope="module")
def place(finished: Path) -> Iterator[Path]:
    """A copy of a finished run where anybody may read; without its journals' files."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(finished, folder / "copy")
    for path in (folder, folder / "copy", folder / "copy/results"):
        path.chmod(0o755)
    for journal in (folder / "copy" / RUN / "journal").rglob("*.jsonl"):
        journal.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "copy")
        # What is imported late may lie where nobody may read.
        assert (
            main(["figures", CONFIG, "reached"]) == main(["compare", str(RUN), "--out", "compare.html"]) == 0
        )
    yield folder / "copy"
    shutil.rmtree(folder)


@contextmanager
def bound_by_permissions(results: Path, root: int) -> Iterator[None]:
    """Within it all below the results is read-only, and the superuser is nobody."""
    for path in results.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    results.chmod(root)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if superuser:
            os.seteuid(0)
        results.chmod(0o755)
        for path in results.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("root", [0o555, 0o777], ids=["all", "folders in it"])
@pytest.mark.parametrize("command", STAGES, ids=lambda command: command[0])
def test_a_read_only_folder_is_named_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, command: list[str], root: int
) -> None:
    monkeypatch.chdir(place)
    with bound_by_permissions(RUN, root):
        status = main(command)
    # A bar may stand before it in its line.
    said = [line[line.find("remerge: ") :] for line in capsys.readouterr().err.splitlines()]
    said = [line for line in said if line.startswith("remerge: ")]
    assert status == 2 and len(said) == 1, said
    if command[0] != "report" or root == 0o555:  # the page lacks its figures before it is written
        assert said[0].startswith(f"remerge: cannot write {RUN}") or "into" in said[0], said
    assert not list(RUN.glob(".*"))


def test_a_read_only_run_s_lengths(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """They lie in the run's own folder, and need no other."""
    monkeypatch.chdir(place)
    with bound_by_permissions(RUN, 0o555):
        assert main(["lengths", CONFIG]) == 2
    assert f"remerge: cannot write into {RUN}" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_results(tmp_path: Path, copied: Path, capsys: Any) -> None:
    shutil.move(CONFIG, "config.yaml")
    shutil.rmtree("results")
    Path("results").write_text("")
    assert main(["scores", "config.yaml"]) == 2
    assert capsys.readouterr().err == f"remerge: cannot write into {RUN}: Not a directory\n"
