"""Start a process that imports the libraries once for all jobs of a run; see `remerge.forks`."""

import atexit
import os
import subprocess
import sys
import tempfile
from typing import Any

from remerge import devices
from remerge.config import Config
from remerge.job import PLACE

JOBS = 8
"""Fewer jobs take less time than it saves them."""


def suits(config: Config) -> bool:
    """Whether jobs on this machine can be children of one process: not if they use CUDA."""
    return hasattr(os, "pidfd_open") and (config.device == "cpu" or not devices.visible())


def start(config: Config, jobs: int) -> None:
    """Start the process if there are many jobs and it is not there yet; it ends with this one."""
    if jobs < JOBS or not suits(config) or PLACE in os.environ:
        return
    os.environ[PLACE] = tempfile.mkdtemp(prefix="remerge-")
    # Libraries read these when they are imported.
    counts = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    environment |= {f"{name}_NUM_THREADS": str(config.threads) for name in counts}
    command = [sys.executable, "-m", "remerge.forks", os.environ[PLACE], str(os.getpid())]
    quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    atexit.register(subprocess.Popen(command, env=environment, **quiet).terminate)
