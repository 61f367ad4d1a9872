"""The memory that the jobs of a run may take together on this machine."""

from contextlib import suppress
from pathlib import Path

import psutil

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux keeps the limits of groups of processes, and names those that this process is in."""


def room() -> int:
    """MB of the machine's memory, or of what a container or a job of a cluster may take of it."""
    return min([int(psutil.virtual_memory().total), *_limits()]) // 1_000_000


def _limits() -> list[int]:
    """The limits of the groups that this process is in, in bytes."""
    found = []
    with suppress(OSError):
        for line in OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            # The second version of groups names no controllers.
            top, name = (
                (GROUPS / "memory", "memory.limit_in_bytes") if controllers else (GROUPS, "memory.max")
            )
            own = top / path.lstrip("/")
            for group in (own, *own.parents):
                with suppress(OSError, ValueError):  # no such group in this container, or no limit
                    found.append(int((group / name).read_text()))
    return found
