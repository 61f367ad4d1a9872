"""The process of a run that has imported the libraries, and whose children do the jobs.

A child begins as if it had just imported torch and transformers. Nothing of remerge but this file and
`remerge.job` is imported before, so that a job has the code that is there when it begins.
"""

import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from remerge.job import socket_in

LIBRARIES = (
    "torch",
    "transformers.trainer",
    "datasets",
    "pandas",
    "scipy.stats",
    "matplotlib.figure",
    "pydantic",
)
"""What takes longest to import. Nothing is computed with them before a fork, so no threads are running."""

SECONDS = 1.0
"""Between looks at whether the run is alive."""

PATIENCE = 60.0
"""Seconds within which a job must have said what it is; a busy machine may take some."""


@dataclass
class Job:
    """A job that a child is doing.

    Attributes:
        pid: the child.
        handle: a file descriptor that is readable once the child has ended.
        asked: the connection to the process that waits.
    """

    pid: int
    handle: int
    asked: socket.socket


def serve(folder: str, run: int) -> None:
    """Import the libraries, then let children do jobs until the run has ended.

    Jobs that ask before wait: to import by themselves, beside this process, would take them longer.
    """
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as events:
        listener.bind(socket_in(folder))
        listener.listen()
        for library in LIBRARIES:
            importlib.import_module(library)
        gc.freeze()  # or every child would look through these objects again and again, and copy their pages
        events.register(listener, selectors.EVENT_READ)
        while os.getppid() == run:
            for key, _ in events.select(SECONDS):
                if key.data is None:
                    _begin(listener, events)
                else:
                    _go_on(key.data, key.fileobj, events)


def _begin(listener: socket.socket, events: selectors.BaseSelector) -> None:
    """Fork a child for a job that asks."""
    asked, _ = listener.accept()
    asked.settimeout(PATIENCE)
    files: list[int] = []
    try:
        _, files, *_ = socket.recv_fds(asked, 1, 3)
        told = json.loads(asked.makefile().readline())
    except (OSError, ValueError):
        asked.close()
    else:
        asked.settimeout(None)
        pid = os.fork()
        if pid == 0:
            listener.close()
            events.close()
            _do(files, **told)
        job = Job(pid, os.pidfd_open(pid), asked)
        with suppress(OSError):
            asked.sendall(b"begun\n")
        events.register(job.handle, selectors.EVENT_READ, job)
        events.register(asked, selectors.EVENT_READ, job)
    for file in files:
        os.close(file)


def _go_on(job: Job, ready: Any, events: selectors.BaseSelector) -> None:
    """A child has ended, whose status is passed on; or the process that waits has, and the child must."""
    if ready is job.asked:
        if ready.fileno() >= 0:  # else it has just been closed
            events.unregister(ready)
            os.kill(job.pid, signal.SIGKILL)
        return
    status = os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1])
    with suppress(OSError):
        job.asked.sendall(f"{status}\n".encode())
    with suppress(KeyError):
        events.unregister(job.asked)
    events.unregister(job.handle)
    os.close(job.handle)
    job.asked.close()


def _do(files: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Do a job, in a child, and end."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # a variable names it
        from remerge import __main__ as command_line

        status = command_line.main(arguments)
    except SystemExit as stop:  # of a command line that is wrong
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _end(*_: object) -> None:
    sys.exit()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the jobs of an interrupted run end first
    signal.signal(signal.SIGTERM, _end)
    try:
        serve(sys.argv[1], int(sys.argv[2]))
    finally:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
