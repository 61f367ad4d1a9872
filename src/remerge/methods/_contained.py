"""What a method's function, which may be anyone's, must leave as it is, since other merges rest on it."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from remerge.deltas import Deltas, LowRank, State
from remerge.errors import UserError
from remerge.sources import failure_in_own

MEMORY = MemoryError | torch.OutOfMemoryError
"""What is no mistake of a method's."""


@contextmanager
def contained(
    method: str,
    deltas: Deltas,
    statistics: Mapping[str, State] | None = None,
    written: State = MappingProxyType({}),
) -> Iterator[None]:
    """Refuse a method that, in this block, fails, changes what it is given, or draws what nothing repeats.

    PyTorch counts the changes of a tensor in place; it sees none through NumPy or ``tensor.data``.

    Args:
        method: its name.
        deltas: the deltas that it merges.
        statistics: the experts' statistics, if it is given any.
        written: tensors into which the merge is written, of which the deltas may have some.

    Raises:
        UserError: as said.
    """
    places = {id(tensor) for tensor in written.values()}
    given = {what: t for what, t in _given(deltas, statistics or {}) if id(t) not in places}
    versions = {what: tensor._version for what, tensor in given.items()}
    with repeatable(method, [tensor.device for tensor in given.values()]):
        yield
    for what, tensor in given.items():
        if tensor._version != versions[what]:
            raise UserError(
                f"method {method}: it changes {what} in place, from which other merges are made: let it "
                "change a clone"
            )


@contextmanager
def repeatable(method: str, devices: Iterable[torch.device]) -> Iterator[None]:
    """Refuse a method that, in this block, fails, or draws what nothing repeats.

    Args:
        method: its name.
        devices: those on which it may draw.

    Raises:
        UserError: as said.
    """
    gpus = sorted({device for device in devices if device.type == "cuda"}, key=str)
    drawn = _generators(gpus)
    try:
        yield
    except Exception as error:
        failed = "" if isinstance(error, UserError | MEMORY) else failure_in_own(error)
        if not failed:
            raise
        raise UserError(f"{failed}: correct it") from error
    if _generators(gpus) != drawn:
        raise UserError(
            f"method {method}: it draws random numbers that no other run repeats: give it a parameter "
            "seed, and let it draw from torch.Generator().manual_seed(seed)"
        )


def _given(deltas: Deltas, statistics: Mapping[str, State]) -> Iterator[tuple[str, Tensor]]:
    """The tensors that a method can reach, in words, but for those of which PyTorch counts no changes."""
    states = {"the base's": deltas.base, **{f"expert {e}'s": s for e, s in deltas.states.items()}}
    states |= {f"the statistics of {expert} for": state for expert, state in statistics.items()}
    for whose, state in states.items():
        for name, value in state.items():
            for part in (value.B, value.A) if isinstance(value, LowRank) else (value,):
                if not part.is_inference():
                    yield f"{whose} {name}", part


def _generators(gpus: Sequence[torch.device]) -> list[object]:
    """The states of all generators that draw without being named."""
    states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, gpus)]
    _, words, *position = np.random.get_state()
    drawn = [state.numpy().tobytes() for state in states]
    return [random.getstate(), np.asarray(words).tobytes(), position, *drawn]
