"""Runs of the workflow: whether one is alive, and what dead runs left behind.

A killed Snakemake leaves its lock, jobs that continue without it, and files that were being written.
"""

import fcntl
import os
import shutil
import socket
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from remerge.errors import UserError
from remerge.files import PARTIAL, writing
from remerge.notes import note

STATE = Path(".snakemake")
"""Snakemake's folder for its own state, in the working directory."""

RUN = "REMERGE_RUN"
"""The variable that tells a job the process of its run."""

DAY = 24 * 60 * 60


def begin(benchmark: str, folder: Path) -> int:
    """Begin a run of a benchmark in this process, and remove what its dead runs left.

    Returns:
        A lock that is held until the process ends, in whatever way. If another run of the benchmark holds it,
        it is taken when that run ends, so that a third does not take this one for dead.
    """
    os.environ[RUN] = str(os.getpid())
    STATE.mkdir(exist_ok=True)
    held = os.open(STATE / f"remerge-{benchmark}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        threading.Thread(target=_wait, args=[held], daemon=True).start()
        return held
    for lock in (STATE / "locks").glob("*.lock"):
        if any(line.startswith(f"{folder}/") for line in lock.read_text("utf-8").splitlines()):
            lock.unlink()
    sweep(folder)
    return held


def must_know_what_changed(folder: Path, settings: str, forced: bool | None) -> None:
    """Refuse a run with other settings where Snakemake's own record of what each file was made with is gone.

    It would take all files for made with today's settings.

    Args:
        folder: the folder of the benchmark's results.
        settings: the configuration of the run.
        forced: whether, in any case, everything is made again.

    Raises:
        UserError: the settings differ from those of the results, and nothing says which files depend on them.
    """
    kept, made = folder / "config.yaml", folder / "base.json"
    noted = STATE / "metadata" / urlsafe_b64encode(str(made).encode()).decode()
    if forced or not kept.is_file() or not made.is_file() or noted.exists():
        return
    if kept.read_text("utf-8") != settings:
        raise UserError(
            f"{kept}: made with other settings, and {STATE}/metadata does not say what they change: run "
            "once with --forceall, or name another benchmark"
        )


def _wait(held: int) -> None:
    """Take a lock as soon as it is free; where the file system has none, never."""
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX)


def sweep(folder: Path) -> None:
    """Remove files and folders that a process was writing when it was killed.

    Processes of other machines cannot be checked. Whatever nobody has written to for a day is removed, too.
    """
    for path in [*folder.rglob(f"{PARTIAL}*")]:
        host, pid, _ = path.name.removeprefix(PARTIAL).split("~", 2)
        try:
            old = time.time() - path.stat().st_mtime > DAY
        except FileNotFoundError:
            continue  # it was finished, or its folder was removed
        if old or (host == socket.gethostname() and not psutil.pid_exists(int(pid))):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """A context that only one process can be in for the same file; later ones wait.

    If the file system has no locks, nobody waits.

    Raises:
        UserError: the file cannot be created.
    """
    held = _locked(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(held)


def _locked(file: Path) -> int:
    while True:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), file.stat()):
                return held
        # The previous process has removed the file: by now there may be another.
        os.close(held)


def end_with_the_run() -> bool:
    """End this process when the run that started it is gone: a later run would write the same files.

    A job that a cluster started belongs to another machine, and continues.

    Returns:
        Whether a run on this machine started it.
    """
    pid = int(os.environ.get(RUN, "0"))
    above = {process.pid: process for process in psutil.Process().parents()}
    if pid not in above:
        return False

    def watch() -> None:
        while above[pid].is_running() and above[pid].status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
        note("the run that started this job is gone: the job ends, too")
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()
    return True
