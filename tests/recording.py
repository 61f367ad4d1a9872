"""What a GPU would record of a step, and what it would wait for, on a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from remerge import step
from remerge.step import Given, Recording

DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Waits(TorchDispatchMode):
    """Finds operations whose results' shapes, or values that Python reads, depend on tensors' values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        if DEPENDENT & {*func.tags} and not _by_numbers(func, args):
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _by_numbers(func: Any, args: Any) -> bool:
    """Whether an operation picks entries by their numbers and not by a mask."""
    picks = func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
    return picks and all(at is None or at.dtype != torch.bool for at in args[1])


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


def on_a_cpu(monkeypatch: Any) -> list[Graph]:
    """Let steps on a CPU be recorded, of shapes that fit small models; the recordings."""
    graphs: list[Graph] = []

    def record(run: Callable[[Given], tuple[Tensor, Tensor]], given: Given) -> Recording:
        graphs.append(Graph())
        with graphs[-1]:
            made = run(given)
        for tensor in made:
            tensor.fill_(torch.nan)  # until it is played
        return Recording(given, graphs[-1].replay, made)

    monkeypatch.setattr(step, "RECORDED", {"cpu"})
    monkeypatch.setattr(step, "record", record)
    monkeypatch.setattr(step, "beside", lambda run: run())
    monkeypatch.setattr(step, "LENGTH", 4)
    monkeypatch.setattr(step, "POSITIONS", 4)
    return graphs
