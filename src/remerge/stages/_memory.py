"""The most memory that was held."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system counts by."""

FORGOTTEN = {"cpu": 0, "cuda": 0}
"""The most that was held before the count began anew."""


def forget_peak(device: "torch.device") -> None:
    """Count the peak anew: a GPU's, or a process's where the system lets it."""
    FORGOTTEN[device.type] = max(FORGOTTEN.get(device.type, 0), peak(device))
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak(device: "torch.device") -> int:
    """Bytes allocated on a GPU, on a CPU resident of the process, at most since the last `forget_peak`."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return _of_process()


def most() -> tuple[int, int]:
    """Bytes resident of this process, and allocated on a GPU, at most since it began."""
    return max(FORGOTTEN["cpu"], _of_process()), max(FORGOTTEN["cuda"], *_of_gpus())


def _of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def _of_gpus() -> list[int]:
    """Of each GPU that this process sees; 0 where it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return [0]
    return [torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())]
