"""One step of learned coefficients: the loss of a merge and its gradient, recorded on a GPU.

A step consists of some two thousand short operations, which a program asks for more slowly than a GPU does
them. On a GPU it is therefore recorded as a CUDA graph, once for every shape of its inputs, and played back.
For there to be few shapes, inputs are padded to multiples of `LENGTH`, and judged positions to multiples of
`POSITIONS`; what is added weighs nothing.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from remerge import passes
from remerge.blend import Blend
from remerge.families import Batch, Family
from remerge.measures.references import Reference, position_weights, side_by_side

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps the log-probabilities of expert and merged model, ``[N, V]`` each, to a loss per position, ``[N]``."""

LENGTH, POSITIONS = 32, 8
"""On a GPU, the length of inputs and the number of judged positions are multiples of these."""

SHAPES = 16
"""The most shapes that are recorded, for each keeps the memory of a step; steps of others are run."""

RECORDED = {"cuda"}
"""The kinds of devices on which steps are recorded."""


@dataclass(frozen=True)
class Given:
    """The inputs of a step.

    Attributes:
        lam: the merge's coefficients, ``[T, layers]`` or ``[T, 1]``.
        batch: inputs of each task with the N judged positions.
        expert: the experts' log-probabilities there, ``[N, V]``, or nothing, ``[0, V]``.
        weight: the weight of each position in the loss, ``[N]``.
    """

    lam: Tensor
    batch: Batch
    expert: Tensor
    weight: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """Its tensors, in the same order for all steps."""
        batch = self.batch
        return [self.lam, *batch.inputs.values(), *batch.positions, self.expert, self.weight]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Everything about it that operations depend on, but for its tensors' values."""
        return (*self.batch.tasks, *(tensor.shape for tensor in self.tensors))


@dataclass(frozen=True)
class Recording:
    """A step that is played back.

    Attributes:
        given: its inputs, which are overwritten.
        play: computes the step anew.
        made: its loss and gradient, which that overwrites.
    """

    given: Given
    play: Callable[[], None]
    made: tuple[Tensor, Tensor]


class Step:
    """The loss ``sum_t mean_x mean_positions objective`` of a merge, and its gradient.

    Args:
        family: the model's family, which runs it.
        model: the module into which `blend` writes merges.
        blend: the merges.
        objective: the loss at each position.
    """

    def __init__(self, family: Family, model: nn.Module, blend: Blend, objective: Objective) -> None:
        self.family, self.model, self.blend, self.objective = family, model, blend, objective
        self.device = next(model.parameters()).device
        self.records = self.device.type in RECORDED
        self.seen: set[tuple[Any, ...]] = set()
        self.recordings: dict[tuple[Any, ...], Recording] = {}

    def __call__(
        self, lam: Tensor, chosen: Sequence[tuple[Reference, Sequence[int]]]
    ) -> tuple[Tensor, Tensor]:
        """The loss, and dL/dlam, float32 ``[T, layers]``, for some inputs of each task.

        Args:
            lam: the coefficients, ``[T, layers]`` or ``[T, 1]``.
            chosen: the references, each with the indices of some of its inputs.
        """
        given = self._given(lam, chosen)
        if not self.records:
            return self._run(given)
        shape = given.shape
        if shape not in self.recordings and (shape not in self.seen or len(self.recordings) == SHAPES):
            # The first step of a shape prepares what must not be prepared while it is recorded.
            self.seen.add(shape)
            return beside(lambda: self._run(given))
        if shape in self.recordings:
            passes.counted()
        else:
            try:
                self.recordings[shape] = record(self._run, given)
            except RuntimeError as error:
                cause = str(error).splitlines()[0]
                warnings.warn(f"steps are not recorded on this GPU, which is slower: {cause}", stacklevel=2)
                self.records = False
                return self._run(given)
        recording = self.recordings[shape]
        for place, tensor in zip(recording.given.tensors, given.tensors, strict=True):
            place.copy_(tensor)
        recording.play()
        loss, gradient = recording.made
        return loss.clone(), gradient.clone()

    def _given(self, lam: Tensor, chosen: Sequence[tuple[Reference, Sequence[int]]]) -> Given:
        """The inputs of a step, padded if it may be recorded."""
        examples = [reference.examples[i] for reference, some in chosen for i in some]
        batch = self.family.collate(examples, self.device, LENGTH if self.records else 1)
        expert = side_by_side(self.family, self.model, chosen)
        weight = position_weights(batch) * len(chosen) / batch.size
        # Where classes are predicted, there are as many positions as inputs.
        more = -len(weight) % POSITIONS if self.records and self.family.speaks else 0
        positions = tuple(pad(at, (0, more)) for at in batch.positions)
        padded = Batch(batch.inputs, positions, batch.targets, batch.example, batch.tasks)
        return Given(lam, padded, pad(expert, (0, 0, 0, more if len(expert) else 0)), pad(weight, (0, more)))

    def _run(self, given: Given) -> tuple[Tensor, Tensor]:
        def loss() -> Tensor:
            merged = self.family.logits(self.model, given.batch).log_softmax(dim=-1)
            return (self.objective(given.expert, merged) * given.weight).sum()

        return self.blend.gradient(given.lam, loss)


def record(run: Callable[[Given], tuple[Tensor, Tensor]], given: Given) -> Recording:
    """A CUDA graph of a step whose shapes have been run before.

    Raises:
        RuntimeError: an operation cannot be recorded, or there is no memory for it.
    """
    torch.cuda.empty_cache()  # a graph has memory of its own, and does not use what earlier steps have freed
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool()):
        made = run(given)
    return Recording(given, graph.replay, made)


def beside(run: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Run a step on a stream of its own, as PyTorch asks of steps that are recorded later."""
    stream, current = _stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        made = run()
    current.wait_stream(stream)
    return made


@cache
def _stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


@cache
def _pool() -> Any:
    """The memory of all recordings: they are played one at a time, and what each has made is copied."""
    return torch.cuda.graph_pool_handle()
