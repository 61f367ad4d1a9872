"""The most memory that was held."""

import resource
import sys

import torch

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in what the system counts by."""


def forget_peak(device: torch.device) -> None:
    """Count a GPU's peak anew; that of a process on a CPU cannot be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """Bytes allocated on a GPU since the last `forget_peak`; on a CPU, resident of the process until now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
