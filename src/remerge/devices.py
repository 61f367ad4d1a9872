"""The GPUs of a machine, assigned to the jobs of its runs: each sees one, shared with others that fit.

Jobs coordinate through files in a folder of the user. A file is locked until its job ends, in whatever way,
and is named after device, megabytes and process.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from remerge.errors import UserError
from remerge.notes import note

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that limits the devices visible to a process."""

ORDER = "CUDA_DEVICE_ORDER"
"""The variable that says how CUDA numbers devices: otherwise the fastest is 0, unlike in nvidia-smi."""

SECONDS = 1.0
"""The interval at which a waiting job looks again."""

HELD: list[int] = []
"""The locked files of this process, held until it ends."""


def take(memory: int) -> None:
    """Use a single device from now on: a free one, or the one with most room, once this many megabytes fit.

    A job that is larger than any device waits for a free one. If there are no devices, or the job needs none,
    nothing is done.

    Raises:
        UserError: the folder of the files belongs to somebody else.
    """
    devices = visible()
    if not devices or not memory:
        return
    folder = Path(tempfile.gettempdir(), f"remerge-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} is not a folder of this user: remove it, or set TMPDIR")
    waits = False
    while not (found := _try(memory, devices, folder)):
        if not waits:
            note(f"waiting for {memory} MB of a GPU")
        waits = True
        time.sleep(SECONDS)
    os.environ[VISIBLE] = found


def only(device: str) -> str:
    """See nothing but the GPU that a configuration numbers, as nvidia-smi does: Trainer takes the first.

    Returns:
        What the device is called from now on.
    """
    os.environ.setdefault(ORDER, "PCI_BUS_ID")
    kind, _, number = device.partition(":")
    if number:
        seen = os.environ[VISIBLE].split(",") if VISIBLE in os.environ else None
        os.environ[VISIBLE] = number if seen is None else "".join(seen[int(number) :][:1])
    return kind


def visible() -> dict[str, int]:
    """The visible devices, each with its megabytes; 0 if unknown."""
    told: dict[str, int] = {}
    names: dict[str, str] = {}
    if command := shutil.which("nvidia-smi"):
        asked = [command, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
        done = subprocess.run(asked, capture_output=True, text=True)
        for line in done.stdout.splitlines() if done.returncode == 0 else []:
            index, name, total = (part.strip() for part in line.split(","))
            told[name], names[index] = int(total) if total.isdigit() else 0, name
    if VISIBLE not in os.environ:
        return told
    seen = [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    return {names.get(name, name): told.get(names.get(name, name), 0) for name in seen if name != "-1"}


def _try(memory: int, devices: dict[str, int], folder: Path) -> str | None:
    """Take a device if a job fits on one."""
    with _locked(folder):
        held: dict[str, list[int]] = {name: [] for name in devices}
        for file in folder.glob("*~*~*"):
            name, megabytes, _ = file.name.rsplit("~", 2)
            if _is_alive(file):
                held.setdefault(name, []).append(int(megabytes))
        room = {name: total - sum(held[name]) for name, total in devices.items()}
        best = max(devices, key=lambda name: (not held[name], room[name]))
        if held[best] and room[best] < memory:
            return None
        mine = os.open(folder / f"{best}~{memory}~{os.getpid()}", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(mine, fcntl.LOCK_EX)
        HELD.append(mine)
        return best


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _is_alive(file: Path) -> bool:
    """Whether the job of a file is alive; if not, the file is removed."""
    held = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        file.unlink()
        return False
    finally:
        os.close(held)
