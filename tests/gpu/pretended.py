"""A GPU that this process takes for one: see `pretended.cpp`. Its module is imported before torch is."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VARIABLE = "PRETENDED_GPU"
"""Names the library; every process that has this folder on its PYTHONPATH then has the GPU."""

TORCH = Path(find_spec("torch").submodule_search_locations[0])
MEMORY = 24 << 30


def built(folder: Path) -> Path | None:
    """The library, compiled into a folder, if there is a compiler."""
    compiler = shutil.which("c++")
    if compiler is None:
        return None
    library = folder / "libpretended.so"
    include = [f"-I{TORCH / 'include'}", f"-I{TORCH / 'include/torch/csrc/api/include'}"]
    link = [f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu"]
    source = Path(__file__).with_suffix(".cpp")
    command = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", *include, source, "-o", library, *link]
    subprocess.run(list(map(str, command)), check=True)
    return library


def install(library: str) -> ctypes.CDLL:
    """Let PyTorch have the GPU, in this process."""
    assert "torch" not in sys.modules, "PyTorch asks once whether there is a GPU"
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(TORCH / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    pretended = ctypes.CDLL(library)
    import torch
    from torch.cuda import random

    traits = SimpleNamespace(name="pretended", total_memory=MEMORY, major=9, minor=0, uuid="GPU-0")
    state = torch.zeros(16, dtype=torch.uint8)
    said = {
        **dict.fromkeys(("_lazy_init", "set_device", "synchronize", "empty_cache"), None),
        **dict.fromkeys(("manual_seed", "manual_seed_all", "reset_peak_memory_stats"), None),
        **dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), True),
        **dict.fromkeys(("max_memory_allocated", "memory_allocated", "memory_reserved"), 1 << 20),
        "device_count": 1,
        "current_device": 0,
        "get_device_properties": traits,
        "get_device_name": traits.name,
        "get_device_capability": (traits.major, traits.minor),
        "mem_get_info": (MEMORY, MEMORY),
        "memory_stats": {},
        "graph_pool_handle": (0, 0),
        "device": nullcontext(),
        "stream": nullcontext(),
        "current_stream": Stream(),
        "get_rng_state": state,
        "get_rng_state_all": [state],
        "set_rng_state": None,
        "set_rng_state_all": None,
    }
    for name, value in said.items():
        setattr(torch.cuda, name, _saying(value))
        if name in vars(random):
            setattr(random, name, getattr(torch.cuda, name))
    torch.cuda.is_current_stream_capturing = lambda: graph.capturing
    torch.cuda.Stream, torch.cuda.CUDAGraph, torch.cuda.graph = Stream, CUDAGraph, graph
    of_cpu = torch.Tensor.numpy

    def numpy(tensor: torch.Tensor, **named: Any) -> Any:
        if tensor.is_cuda:
            raise TypeError("can't convert a tensor of cuda:0 to numpy: use Tensor.cpu()")
        return of_cpu(tensor, **named)

    torch.Tensor.numpy = numpy
    return pretended


def _saying(value: Any) -> Callable[..., Any]:
    """A function of its own, as PyTorch's compiler asks of each."""
    return lambda *given, **named: value


class Stream:
    """A stream: what is asked for is done at once."""

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def wait_stream(self, other: "Stream") -> None:
        """Nothing is left to wait for."""

    synchronize = wait_stream


class CUDAGraph:
    """The operations that were done while it was recorded, which it does again."""

    played = 0

    def replay(self) -> None:
        CUDAGraph.played += 1
        self.recorded.replay()


class graph:
    """Records into a graph what a GPU could record."""

    capturing = False

    def __init__(self, into: CUDAGraph, pool: Any = None, stream: Any = None) -> None:
        from recording import Captured

        into.recorded = self.mode = Captured()

    def __enter__(self) -> None:
        graph.capturing = True
        self.mode.__enter__()

    def __exit__(self, *raised: Any) -> None:
        graph.capturing = False
        self.mode.__exit__(*raised)
