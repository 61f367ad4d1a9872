"""A run that is alive keeps what it holds; what dead ones left goes."""

import base64
import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remerge import runs
from remerge.errors import UserError
from remerge.files import PARTIAL

OTHER = "import sys, time; from pathlib import Path; from remerge import runs\n"
HELD = OTHER + "print(runs.begin('b', Path('results/b')) is not None, flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(runs.RUN, "0")
    locks = tmp_path / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.output.lock").write_text("results/b/report.html\n")
    (locks / "0.input.lock").write_text("src/x.py\nresults/b/base.json\n")
    (locks / "1.output.lock").write_text("results/bb/report.html\n")
    return tmp_path


def locks() -> list[str]:
    return sorted(path.name for path in Path(".snakemake/locks").iterdir())


def taken() -> bool:
    with Path(".snakemake/remerge-b.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def test_the_locks_of_a_dead_run_of_the_benchmark_are_released() -> None:
    held = runs.begin("b", Path("results/b"))
    assert locks() == ["1.output.lock"]
    os.close(held)


def test_those_of_a_run_that_is_alive_stay_and_its_death_however_it_dies_releases_them() -> None:
    other = subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    Path(".snakemake/locks/2.output.lock").write_text("results/b/report.html\n")
    second = subprocess.Popen([sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None and second.stdout.readline() == "True\n"
    assert locks() == ["1.output.lock", "2.output.lock"]
    other.kill()
    other.wait()
    while not taken():
        time.sleep(0.01)
    third = runs.begin("b", Path("results/b"))
    assert locks() == ["1.output.lock", "2.output.lock"]  # the second one's, which is alive
    os.close(third)
    second.kill()
    second.wait()
    held = runs.begin("b", Path("results/b"))
    assert locks() == ["1.output.lock"]
    os.close(held)


def test_other_settings_are_refused_where_nothing_says_what_they_change(folder: Path) -> None:
    results = folder / "results/b"
    runs.must_know_what_changed(results, "seed: 1", False)
    results.mkdir(parents=True)
    (results / "config.yaml").write_text("seed: 0")
    results = Path("results/b")
    runs.must_know_what_changed(results, "seed: 1", False)  # nothing is made yet
    (results / "base.json").touch()
    runs.must_know_what_changed(results, "seed: 0", False)
    runs.must_know_what_changed(results, "seed: 1", True)
    with pytest.raises(UserError, match=r"made with other settings, and .* run once with --forceall"):
        runs.must_know_what_changed(results, "seed: 1", False)
    (folder / ".snakemake/metadata").mkdir()
    (folder / ".snakemake/metadata" / base64.b64encode(b"results/b/base.json").decode()).touch()
    runs.must_know_what_changed(results, "seed: 1", False)


def test_what_dead_processes_were_writing_is_swept_and_nothing_else(folder: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = socket.gethostname()
    names = {
        f"{PARTIAL}{here}~{dead.pid}~3.jsonl.x": False,
        f"{PARTIAL}{here}~{os.getpid()}~3.jsonl.x": True,
        f"{PARTIAL}elsewhere~{dead.pid}~3.jsonl.x": True,
        f"{PARTIAL}elsewhere~{dead.pid}~4.jsonl.x": False,
        "3.jsonl": True,
    }
    results = folder / "results/b/merges/ties"
    results.mkdir(parents=True)
    for name in names:
        (results / name).write_text("")
    os.utime(results / f"{PARTIAL}elsewhere~{dead.pid}~4.jsonl.x", (0, 0))
    full = folder / f"results/b/experts/{PARTIAL}{here}~{dead.pid}~cola.x"
    (full / "cola").mkdir(parents=True)
    (full / "cola/model.safetensors").write_text("half")
    runs.sweep(folder / "results/b")
    assert {name: (results / name).exists() for name in names} == names
    assert not full.exists()


def test_a_job_ends_when_its_run_is_gone() -> None:
    job = OTHER + "runs.end_with_the_run(); print('at work', flush=True); time.sleep(60)"
    shell = ["bash", "-c", '"$0" -c "$1"; true', sys.executable, job]
    run = (
        "import os, subprocess, time\n"
        f"os.environ[{runs.RUN!r}] = str(os.getpid())\n"
        f"subprocess.Popen({shell!r})\n"
        "time.sleep(60)"
    )
    began = subprocess.Popen(
        [sys.executable, "-c", run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert began.stdout is not None and began.stdout.readline() == "at work\n"
    began.kill()
    started = time.monotonic()
    assert began.stderr is not None and "the run that started this job is gone" in began.stderr.read()
    assert time.monotonic() - started < 20


def test_a_job_of_a_run_that_is_no_ancestor_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster hands the variable to another machine, where the number is another process, or none."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setenv(runs.RUN, str(other.pid))
    before = len(runs.threading.enumerate())
    runs.end_with_the_run()
    assert len(runs.threading.enumerate()) == before
    other.kill()
