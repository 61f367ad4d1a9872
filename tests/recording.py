"""What a GPU would record of a step, and what it would wait for, on a CPU."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from remerge import step
from remerge.step import Given, Recording, Run

DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Waits(TorchDispatchMode):
    """Finds operations whose results' shapes, or values that Python reads, depend on tensors' values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        if _waits(func, args):
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _waits(func: Any, args: Any) -> bool:
    """Whether it depends on values what an operation makes, but for entries picked by their numbers."""
    picks = func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
    by_numbers = picks and all(at is None or at.dtype != torch.bool for at in args[1])
    return bool(DEPENDENT & {*func.tags}) and not by_numbers


class Graph(TorchDispatchMode):
    """A CUDA graph on a CPU: the operations of a step, done again on the same memory without its Python."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.played = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    @torch.no_grad()
    def replay(self) -> None:
        self.played += 1
        for func, args, kwargs, made in self.calls:
            for old, new in zip(tree_leaves(made), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Captured(Graph):
    """A graph that refuses what a GPU cannot record: to wait for a value, and to read the CPU's memory."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = filter(torch.is_tensor, tree_leaves((args, kwargs or {})))
        if _waits(func, args) or any(tensor.dim() and tensor.is_cpu for tensor in read):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        return super().__torch_dispatch__(func, types, args, kwargs)


class Kept(TorchDispatchMode):
    """Finds memory that a step reads and nothing keeps: a GPU would play back what lies there later."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[int] = set()
        self.read: dict[int, tuple[weakref.ref[Any], str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in filter(torch.is_tensor, tree_leaves((args, kwargs or {}))):
            storage = tensor.untyped_storage()
            # A number is passed to a GPU's operation by its value.
            if storage.data_ptr() not in self.made and tensor.dim():
                self.read.setdefault(storage.data_ptr(), (weakref.ref(storage), func.__name__))
        made = func(*args, **(kwargs or {}))
        for tensor in filter(torch.is_tensor, tree_leaves(made)):
            if tensor.untyped_storage().data_ptr() not in self.read:
                self.made.add(tensor.untyped_storage().data_ptr())
        return made

    def gone(self) -> list[str]:
        """The operations that first read such memory."""
        gc.collect()
        return [name for storage, name in self.read.values() if storage() is None]


class OnACpu:
    """What `step.Recorder` is on a GPU; it keeps its recordings.

    What steps read and nothing keeps is found, and what they make is NaN until they are played.
    """

    graphs: list[Graph]

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def prepare(self, run: Run, given: Given) -> tuple[Tensor, Tensor]:
        with Kept() as kept:
            made = run(given)
        assert (kept.gone(), len(kept.read) > 10) == ([], True), (kept.gone(), len(kept.read))
        return made

    def record(self, run: Run, given: Given) -> Recording:
        self.graphs.append(Graph())
        with self.graphs[-1] as graph:
            made = run(given)
        for tensor in made:
            tensor.fill_(torch.nan)
        return Recording(given, graph.replay, made)


def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Let steps on a CPU be recorded, of shapes that fit small models; the recordings."""
    OnACpu.graphs = []
    monkeypatch.setitem(step.RECORDERS, "cpu", OnACpu)
    monkeypatch.setattr(step, "LENGTH", 4)
    monkeypatch.setattr(step, "POSITIONS", 4)
    return OnACpu.graphs
