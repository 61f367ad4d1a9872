"""A finished run of seconds."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from faults.small import CONFIG, TABLES, finish, settings

from remerge.__main__ import main


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried, a line a family; workers do not print."""
    passed = terminalreporter.getreports("passed")
    families = Counter(Path(report.nodeid.split("::")[0]).stem for report in passed if report.when == "call")
    for family, count in sorted(families.items()):
        terminalreporter.write_line(f"{family.removeprefix('test_')}: {count} passed")
    for name, value in (known for report in passed for known in report.user_properties):
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which it was made, with some tables and an export, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish(settings())
        for table in TABLES.values():
            assert main([table[0], CONFIG, *table[1:]]) == 0
        assert main(["exports", CONFIG, "average", "cola+mnli"]) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in the working directory."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"
