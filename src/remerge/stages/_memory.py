"""Peak memory, and memory that does not suffice."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in the system's unit of memory."""

FULL = (
    *("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"),
    *("CUSOLVER_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: can't allocate"),
)
"""PyTorch's words where a GPU or the machine has no memory left."""

FORGOTTEN = {"cpu": 0, "cuda": 0}
"""The peaks before the count was restarted."""


def forget_peak(device: "torch.device") -> None:
    """Restart the count of the peak: a GPU's, or a process's where the system allows it."""
    FORGOTTEN[device.type] = max(FORGOTTEN.get(device.type, 0), peak(device))
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak(device: "torch.device") -> int:
    """The peak since the last `forget_peak`: bytes allocated on a GPU, or resident bytes of the process."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return _of_process()


def most() -> tuple[int, int]:
    """The peaks since this process began: its resident bytes, and bytes allocated on a GPU."""
    return max(FORGOTTEN["cpu"], _of_process()), max(FORGOTTEN["cuda"], *_of_gpus())


def _of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def _of_gpus() -> list[int]:
    """The peak of each GPU that this process sees; 0 if it was not used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return [0]
    return [torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())]


def lacking(error: Exception) -> str:
    """An error's words on memory that does not suffice; none of any other error."""
    if isinstance(error, MemoryError):
        return "out of memory"
    said = str(error)
    at = next((said.index(words) for words in FULL if words in said), None)
    # A GPU's message goes on with what it holds, or on further lines with how to look for the cause.
    return "" if at is None else ". ".join(said[at:].splitlines()[0].split(". ")[:2]).rstrip(".")
