"""Base and experts in memory, and the one module that merges are written into."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from remerge.blend import Blend
from remerge.checkpoints.models import held, state_of
from remerge.checkpoints.reading import Checkpoint
from remerge.config import Config
from remerge.deltas import Deltas, LowRank, State, Value, without_tf32
from remerge.families.linearised import Linearised
from remerge.methods import contained, prepare
from remerge.stages._workspace import Workspace
from remerge.tau import Tau, Weights
from remerge.variants import UNPREPARED

HOST = torch.device("cpu")
"""Where models are mapped from their files, which takes no memory that cannot be taken back."""


class Loaded:
    """Base and experts in memory, and the one module that merges are written into.

    Args:
        config: the benchmark's configuration.
        space: its workspace, if there is one.
        heads: the tasks whose heads the module has, where its family has heads; by default, all.
    """

    def __init__(
        self, config: Config, space: Workspace | None = None, heads: Sequence[str] | None = None
    ) -> None:
        self.config, self.space = config, space or Workspace(config)
        self._heads = heads or [*config.tasks]
        self._experts: dict[str, Mapping[str, Value]] = {}
        # The weights of theta_0 that were needed on the device; a CPU reads theta_0's own.
        self._placed: dict[str, Tensor] = {}
        # The last vectors over which coefficients were learned, by their preparation and their tasks.
        self._vectors: tuple[tuple[str, ...], dict[str, Tau]] | None = None
        # The module's weights that are not the base's.
        self._written: set[str] = set()

    @cached_property
    def model(self) -> nn.Module:
        """The module that each merge is written into, with the heads of tasks."""
        return self.space.load("base", self._heads)

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The module's parameters by name, without the heads of tasks."""
        return state_of(self.model)

    @cached_property
    def theta_0(self) -> Checkpoint:
        """The base's weights as stored, mapped from its files, so that no memory of this process holds them.

        Those of a linearised base, or of a base whose dtypes are several, are copies.
        """
        if isinstance(self.space.family, Linearised):
            return replace(held(self.model), tensors=dict(self.space.family.theta_0))
        folder = self.space.path("base")
        dtype = self.space.stored(folder)
        base = held(self.space.load_folder(folder, dtype, HOST))
        # Of models in float16, transformers holds some layers in float32, such as T5's.
        return replace(base, tensors={name: theta.to(dtype) for name, theta in base.tensors.items()})

    def base(self, dense: Collection[str], low_rank: Collection[str] = ()) -> dict[str, Tensor]:
        """theta_0 of the weights that merges change, in the order of the module.

        Args:
            dense: those with changes that are whole tensors: they are on the device.
            low_rank: those with low-rank ones, which are written more rarely: they are where theta_0 is, but
                for an output head, which references read.
        """
        speaks = self.config.base.speaks
        near = {*dense, *({*low_rank} & {*self.theta_0.head} if speaks else ())}
        return {
            name: self._on_device(name) if name in near else self.theta_0.tensors[name]
            for name in self.parameters
            if name in near or name in low_rank
        }

    def _on_device(self, name: str) -> Tensor:
        if name not in self._placed:
            self._placed[name] = self.theta_0.tensors[name].to(self.space.device)
        return self._placed[name]

    def deltas(self, signs: Mapping[str, int], apart: bool = False) -> Deltas:
        """The weight deltas of some experts, negated where the sign is -1; each is loaded once.

        Adapters have deltas only of the weights that one of them changes: a share of all
        entries is a share of what was trained. If theta_0 is kept ``apart``, writing a merge does not
        change it.
        """
        self._read(signs)
        return self._between(self._experts, signs, apart)

    def _read(self, tasks: Iterable[str]) -> None:
        """Read the experts that are not in memory."""
        for task in tasks:
            if task not in self._experts:
                self._experts[task] = self.space.state(task, self.theta_0)

    def _between(
        self, experts: Mapping[str, Mapping[str, Value]], signs: Mapping[str, int], apart: bool = False
    ) -> Deltas:
        """The deltas of some experts, negated where the sign is -1."""
        changed = {name for task in signs for name in experts[task]}
        dense = {name for task in signs for name, v in experts[task].items() if isinstance(v, Tensor)}
        base = self._within(self.base(dense, changed - dense), apart)
        states = {task: {**base, **experts[task]} for task in signs}
        turned = {task: _turned_around(state, base) for task, state in states.items() if signs[task] < 0}
        return Deltas(base, {**states, **turned}, self.parameters)

    def _within(self, base: State, apart: bool) -> dict[str, Tensor]:
        """theta_0 on the device, where the module's own tensors, if exact, take no memory besides, or apart.

        They are the base's again, and hold until a merge is written there.
        """
        far = {name for name, theta in base.items() if _is_far(theta, self.parameters[name])}
        exact = {n for n in far if base[n].dtype == self.parameters[n].dtype and not apart}
        self._put_back(exact)
        near = {name: self.parameters[name] for name in exact}
        near |= {name: self._on_device(name) for name in far - exact}
        return {name: near.get(name, theta) for name, theta in base.items()}

    def make_way(self, names: Iterable[str]) -> None:
        """Put the base's weights back into the module, except where a merge is about to be written."""
        self._put_back(self._written.difference(names))
        self._written.update(names)

    def _put_back(self, names: Iterable[str]) -> None:
        for name in self._written.intersection(names):
            self.parameters[name].copy_(self.theta_0.tensors[name])
        self._written.difference_update(names)

    def put(self, folder: Path) -> None:
        """Write a checkpoint of the base's architecture into the module.

        Raises:
            UserError: it is not one.
        """
        state = self.space.whole(folder, self.theta_0.tensors)
        self.make_way(state)
        for name, theta in state.items():
            self.parameters[name].copy_(theta)

    def task_vectors(self, over: str, tasks: Sequence[str]) -> dict[str, Tau]:
        """The vectors whose coefficients are learned: the deltas, or a method's preparation of them.

        The last ones are kept in place of the experts, so that nothing is in memory twice.
        """
        if self._vectors is None or self._vectors[0] != (over, *tasks):
            self._vectors = None
            self._experts.clear()
            plain = over in UNPREPARED and not any(map(self.space.adapts, tasks))
            self._vectors = (over, *tasks), self._stacked(tasks) if plain else self._prepared(over, tasks)
        return self._vectors[1]

    def _stacked(self, tasks: Sequence[str]) -> dict[str, Tau]:
        """The deltas of whole models; the weights themselves if all are stored in one half precision."""
        rounded = self.config.merge.delta_dtype == "bfloat16"
        half = not rounded and self._in_half(tasks)
        dtype = torch.bfloat16 if rounded else torch.float32
        stacks: dict[str, Tensor] = {}
        for t, task in enumerate(tasks):
            state = self.space.whole(self.space.path(task), self.theta_0.tensors, HOST)
            base = self.base(state)
            for name, theta in state.items():
                if name not in stacks:
                    held = theta.dtype if half else dtype
                    device = base[name].device
                    stacks[name] = torch.empty(len(tasks), *theta.shape, dtype=held, device=device)
                stack = stacks[name][t]
                stack.copy_(theta if half else theta.to(stack.device) - base[name].float())
            del state, theta  # before the next is read
        return {name: Weights(stack) if half else stack for name, stack in stacks.items()}

    @without_tf32()
    def _prepared(self, over: str, tasks: Sequence[str]) -> dict[str, Tau]:
        """A method's preparation of the deltas, or of the factors of adapters.

        Whole models are read from the files, which may be done several times: one prepared tensor may depend
        on all tensors. Of experts in half precision, vectors are rounded to bfloat16: the experts' own
        weights, which are larger than their changes, have been rounded by more.
        """
        experts = {task: self.space.state(task, self.theta_0, HOST) for task in tasks}
        deltas = self._between(experts, dict.fromkeys(tasks, 1))
        asked = self.config.merge.delta_dtype
        half = self._in_half(tasks) if asked is None else asked == "bfloat16"
        dtype = torch.bfloat16 if half else torch.float32
        with contained(over, deltas):
            prepared = prepare(over, deltas)
            return {n: prepared.factors(n) or prepared[n].to(dtype).contiguous() for n in prepared}

    def _in_half(self, tasks: Sequence[str]) -> bool:
        """Whether experts are whole models that are all stored in one half precision."""
        if any(map(self.space.adapts, tasks)):
            return False
        dtypes = {self.space.stored(self.space.path(task)) for task in tasks}
        return len(dtypes) == 1 and dtypes.pop().itemsize == 2

    def base_of(self, vectors: Mapping[str, Tau]) -> dict[str, Tensor]:
        """theta_0 of the weights that vectors change, none of it the module's own."""
        low_rank = {name for name, tau in vectors.items() if isinstance(tau, list)}
        return self.base(vectors.keys() - low_rank, low_rank)

    def blend(self, over: str, tasks: Sequence[str]) -> Blend:
        """The merges of vectors whose coefficients are learned."""
        vectors = self.task_vectors(over, tasks)
        self.make_way(vectors)
        return Blend(self.model, self.base_of(vectors), vectors)


def _is_far(theta: Tensor, other: Tensor) -> bool:
    """Whether two tensors are on different devices."""
    return theta.device != other.device


def _turned_around(state: Mapping[str, Value], base: State) -> dict[str, Value]:
    """An expert with its deltas negated."""
    return {
        name: LowRank(value.B, value.A, -value.scaling)
        if isinstance(value, LowRank)
        else 2 * base[name].float() - value.float()
        for name, value in state.items()
    }
