"""One step of learned coefficients: the loss of a merge and its gradient, recorded on a GPU.

A step consists of some two thousand short operations, which a program asks for more slowly than a GPU does
them. On a GPU it is therefore recorded as a CUDA graph, once for every shape of its inputs, and played back.
For there to be few shapes, inputs are padded to multiples of `LENGTH`, and judged positions to multiples of
`POSITIONS`; what is added weighs nothing.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from remerge import passes
from remerge.blend import Blend
from remerge.errors import cause_of
from remerge.families import Batch, Family
from remerge.families.heads import ABSENT
from remerge.measures.references import Reference, position_weights, side_by_side

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps the log-probabilities of expert and merged model, ``[N, V]`` each, to a loss per position, ``[N]``."""

Shape = tuple[Any, ...]
"""Everything that a step's operations depend on, but for the values of its tensors."""

LENGTH, POSITIONS = 32, 8
"""On a GPU, the length of inputs and the number of judged positions are multiples of these."""

SHAPES = 16
"""The most shapes that are recorded; steps of others are run."""


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
    def shape(self) -> Shape:
        """The tasks of its examples, and the shapes of its tensors."""
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

    def with_inputs(self, given: Given) -> tuple[Tensor, Tensor]:
        """The loss and gradient for other inputs of the same shape."""
        for place, tensor in zip(self.given.tensors, given.tensors, strict=True):
            place.copy_(tensor)
        self.play()
        loss, gradient = self.made
        return loss.clone(), gradient.clone()


Run = Callable[[Given], tuple[Tensor, Tensor]]
"""Computes a step's loss and gradient."""


class Recorder:
    """Records steps of a GPU as CUDA graphs.

    They share their memory: one plays at a time, and what it has made is copied before the next one plays.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        with torch.cuda.device(device):
            self.stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self.pool = torch.cuda.graph_pool_handle()

    def prepare(self, run: Run, given: Given) -> tuple[Tensor, Tensor]:
        """Run a step as PyTorch asks of one that is recorded later: it prepares what no recording may."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            made = run(given)
        current.wait_stream(self.stream)
        return made

    def record(self, run: Run, given: Given) -> Recording:
        """Record a step, which is not run by that.

        Raises:
            RuntimeError: an operation cannot be recorded, or there is no memory for it.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(graph, self.pool, self.stream):
            made = run(given)
        return Recording(given, graph.replay, made)


RECORDERS = {"cuda": Recorder}
"""The kinds of devices on which steps are recorded."""


class Step:
    """The loss ``sum_t mean_x answer_positions objective`` of a merge, and its gradient.

    Args:
        family: the model's family, which runs it.
        model: the module into which `blend` writes merges.
        blend: the merges.
        objective: the loss at each position.
        answer: ``mean`` or ``sum``, over the positions of an input.
    """

    def __init__(
        self, family: Family, model: nn.Module, blend: Blend, objective: Objective, answer: str = "mean"
    ) -> None:
        self.family, self.model, self.blend, self.objective = family, model, blend, objective
        self.answer = answer
        self.device = next(model.parameters()).device
        known = RECORDERS.get(self.device.type)
        self.recorder = known and known(self.device)
        self.prepared: set[Shape] = set()
        self.recordings: dict[Shape, Recording] = {}

    def __call__(
        self, lam: Tensor, chosen: Sequence[tuple[Reference, Sequence[int]]]
    ) -> tuple[Tensor, Tensor]:
        """The loss, and dL/dlam, float32 ``[T, layers]``, for some inputs of each task.

        Args:
            lam: the coefficients, ``[T, layers]`` or ``[T, 1]``.
            chosen: the references, each with the indices of some of its inputs.
        """
        # Heads read it, and steps that are played back.
        self.blend.put_back()
        given = self._given(lam, chosen)
        if self.recorder is None:
            return self._run(given)
        shape = given.shape
        if shape in self.recordings:
            passes.counted()
            return self.recordings[shape].with_inputs(given)
        if shape not in self.prepared or len(self.recordings) == SHAPES:
            self.prepared.add(shape)
            return self.recorder.prepare(self._run, given)
        if self._records(self.recorder, given):
            return self.recordings[shape].with_inputs(given)
        # Not where the error is caught: until that ends, it keeps the memory of the step that failed.
        return self._run(given)

    def _records(self, recorder: Recorder, given: Given) -> bool:
        """Record a step; if that fails, which may be for memory, no step is recorded any more."""
        try:
            self.recordings[given.shape] = recorder.record(self._run, given)
        except RuntimeError as error:
            cause = cause_of(error)
            warnings.warn(f"steps are not recorded on this GPU, which is slower: {cause}", stacklevel=3)
            self.recorder = None
            self.recordings.clear()
            return False
        return True

    def _given(self, lam: Tensor, chosen: Sequence[tuple[Reference, Sequence[int]]]) -> Given:
        """The inputs of a step, padded if it may be recorded."""
        records = self.recorder is not None
        examples = [reference.examples[i] for reference, some in chosen for i in some]
        batch = self.family.collate(examples, self.device, LENGTH if records else 1)
        expert = side_by_side(self.family, self.model, chosen)
        weight = position_weights(batch, self.answer) * len(chosen) / batch.size
        # Where classes are predicted, there are as many positions as inputs.
        more = -len(weight) % POSITIONS if records and self.family.speaks else 0
        positions = tuple(pad(at, (0, more)) for at in batch.positions)
        padded = replace(batch, positions=positions)
        # Of an expert that says no word, every loss is finite: infinity times a weight of 0 would be none.
        rows = pad(expert, (0, 0, 0, more if len(expert) else 0), value=ABSENT)
        return Given(lam, padded, rows, pad(weight, (0, more)))

    def _run(self, given: Given) -> tuple[Tensor, Tensor]:
        def loss() -> Tensor:
            merged = self.family.logits(self.model, given.batch).log_softmax(dim=-1)
            return (self.objective(given.expert, merged) * given.weight).sum()

        return self.blend.gradient(given.lam, loss)
