"""The most memory that was held."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system counts by."""


def forget_peak(device: torch.device) -> None:
    """Count the peak anew: a GPU's, or a process's where the system lets it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> int:
    """Bytes allocated on a GPU, on a CPU resident of the process, at most since the last `forget_peak`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
