"""Jobs that a run's process does in children: as if they were done alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import psutil
import pytest
from projects import ROOT

from remerge import forks
from remerge.job import PLACE, socket_in

Server = tuple[Path, psutil.Process]
Waiting: TypeAlias = "subprocess.Popen[str]"

SERVER = """
import os, sys
from remerge import forks
sys.path.append(sys.argv[1])
forks.LIBRARIES = sys.argv[2:]
forks.serve(sys.argv[1], os.getppid())
"""

RUN = """
import time
from pathlib import Path
from remerge import config, warm
warm.start(config.load(Path("config/demo.yaml")), warm.JOBS)
time.sleep(60)
"""


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def serving(folder: Path, library: str = "json") -> Iterator[Server]:
    """The process of a run, as soon as jobs can ask it; the library may be in the folder."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(folder), library]) as started:
        try:
            until(Path(socket_in(str(folder))).exists)
            yield folder, psutil.Process(started.pid)
        finally:
            started.kill()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("w")) as server:
        yield server


def job(folder: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> Waiting:
    return subprocess.Popen(
        [sys.executable, "-m", "remerge.job", *arguments],
        env=os.environ | {PLACE: str(folder)} | environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*given: object, **more: object) -> tuple[int, str, str]:
    done = job(*given, **more)  # type: ignore[arg-type]
    said, complained = done.communicate(timeout=60)
    return done.returncode, said, complained


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [(["schema"], 0, ""), (["check", "no.yaml"], 2, "no.yaml"), (["nothing"], 2, "invalid choice")],
)
def test_a_child_does_what_the_job_would_do_alone(
    server: Server, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    alone = ended(tmp_path / "none", *arguments)
    assert alone[0] == status and words in alone[2] and "Traceback" not in alone[2]
    served = job(server[0], *arguments)
    assert (*served.communicate(timeout=60),) == alone[1:] and served.returncode == status


def test_a_child_has_the_folder_and_environment_of_its_job(server: Server, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("benchmark: 1")
    assert "own.yaml" in ended(server[0], "check", "own.yaml", cwd=tmp_path)[2]
    narrow = [len(ended(server[0], "--help", COLUMNS=columns)[1]) for columns in ("40", "200")]
    assert narrow[0] != narrow[1]


def waiting(server: Server, tmp_path: Path) -> tuple[Waiting, psutil.Process]:
    """A job that reads a configuration which never comes, and the child that does it."""
    os.mkfifo(tmp_path / "never.yaml")
    asking = job(server[0], "check", str(tmp_path / "never.yaml"))
    until(server[1].children)
    return asking, server[1].children()[0]


def test_a_child_ends_with_the_process_that_waits(server: Server, tmp_path: Path) -> None:
    asking, child = waiting(server, tmp_path)
    asking.kill()
    asking.communicate()
    until(lambda: not child.is_running())
    assert ended(server[0], "schema")[0] == 0


def test_a_child_that_is_killed_fails_its_job(server: Server, tmp_path: Path) -> None:
    asking, child = waiting(server, tmp_path)
    child.kill()
    asking.communicate(timeout=30)
    assert asking.returncode == 128 + signal.SIGKILL


def test_a_job_whose_server_is_killed_fails(server: Server, tmp_path: Path) -> None:
    asking, child = waiting(server, tmp_path)
    server[1].kill()
    child.kill()
    asking.communicate(timeout=30)
    assert asking.returncode == 1
    assert ended(server[0], "schema")[0] == 0  # alone


SLOW = """
import os, time
while not os.path.exists("{0}/go"):
    time.sleep(0.02)
assert open("{0}/go").read() == "on"
"""


@pytest.mark.parametrize("said", ["on", "no"])
def test_a_job_waits_for_the_libraries_and_is_done_alone_if_they_fail(
    tmp_path_factory: pytest.TempPathFactory, said: str
) -> None:
    folder = tmp_path_factory.mktemp("w")
    (folder / "slow.py").write_text(SLOW.format(folder))
    with serving(folder, "slow") as (_, server):
        asking = job(folder, "schema")
        time.sleep(0.5)
        assert asking.poll() is None and not server.children()
        (folder / "part").write_text(said)
        (folder / "part").rename(folder / "go")
        schema, complained = asking.communicate(timeout=60)
        assert (asking.returncode, complained) == (0, "") and "benchmark" in schema
        assert (server.status() == psutil.STATUS_ZOMBIE) == (said == "no")


def test_the_process_ends_with_its_run(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], env=os.environ | {"TMPDIR": str(tmp_path)}, cwd=ROOT)
    until(lambda: psutil.Process(run.pid).children())
    process = psutil.Process(run.pid).children()[0]
    assert [path.name[:8] for path in tmp_path.iterdir()] == ["remerge-"]
    run.kill()
    run.wait()
    until(lambda: not process.is_running())
    assert not list(tmp_path.iterdir())


def test_a_job_has_the_code_that_is_there_when_it_begins() -> None:
    code = "import sys, remerge.forks; print(*(m for m in sys.modules if m.startswith('remerge')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {*loaded.split()} == {"remerge", "remerge.job", "remerge.forks"}
    assert not any(name.startswith("remerge") for name in forks.LIBRARIES)
