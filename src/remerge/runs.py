"""Runs of the workflow: whether one is alive, and what dead ones left behind.

A killed Snakemake leaves its lock, jobs that go on without it, and files that were being written.
"""

import argparse
import fcntl
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from io import StringIO
from pathlib import Path

import psutil

from remerge.files import PARTIAL, writing

STATE = Path(".snakemake")
"""Where Snakemake keeps what it knows, in the working directory."""

RUN = "REMERGE_RUN"
"""The variable by which a job knows the process of its run."""

DAY = 24 * 60 * 60


def asked() -> argparse.Namespace:
    """What the command line of this Snakemake asks for, profiles included; a workflow is told less."""
    from snakemake.cli import parse_args

    with redirect_stderr(StringIO()):  # which has been told of profiles already
        arguments: argparse.Namespace = parse_args(sys.argv[1:])[1]
    return arguments


def begin(benchmark: str, folder: Path) -> int | None:
    """Begin a run of a benchmark in this process; what dead runs of it left is swept.

    Returns:
        What is held until the process ends, however it ends; None where another run of the benchmark is
        alive, or where the file system cannot tell.
    """
    os.environ[RUN] = str(os.getpid())
    STATE.mkdir(exist_ok=True)
    held = os.open(STATE / f"remerge-{benchmark}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    for lock in (STATE / "locks").glob("*.lock"):
        if any(line.startswith(f"{folder}/") for line in lock.read_text().splitlines()):
            lock.unlink()
    sweep(folder)
    return held


def sweep(folder: Path) -> None:
    """Remove files and folders that a process was writing when it was killed.

    Those of other machines' processes, of which nothing can be told, when they are a day old.
    """
    for path in [*folder.rglob(f"{PARTIAL}*")]:
        host, pid, _ = path.name.removeprefix(PARTIAL).split("~", 2)
        try:
            old = time.time() - path.stat().st_mtime > DAY
        except FileNotFoundError:
            continue  # it was finished, or lay in a folder that is gone
        if (not psutil.pid_exists(int(pid)) if host == socket.gethostname() else old) or old:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Within it no other process is within it for the same file; one that comes later waits.

    Where the file system knows no locks nobody waits.

    Raises:
        UserError: the file cannot be made.
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
            held = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), file.stat()):
                return held
        # The one that was waited for has removed the file: there may be another by now.
        os.close(held)


def end_with_the_run() -> bool:
    """End this process when the run that started it is gone: a later run would make the same files.

    A job that a cluster started is another machine's, and goes on.

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
        print("remerge: the run that started this job is gone: it ends too", file=sys.stderr, flush=True)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()
    return True
