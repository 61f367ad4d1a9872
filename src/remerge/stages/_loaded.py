"""Base and experts in memory, and the one module that merges are written into."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from remerge.blend import Blend
from remerge.checkpoints.models import held, state_of
from remerge.checkpoints.reading import Checkpoint
from remerge.config import Config
from remerge.deltas import Deltas, LowRank, State, Value
from remerge.families.linearised import Linearised
from remerge.methods import prepare
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

    Attributes:
        base: theta_0 of the weights that merges overwrite in the module, as stored: more as experts are read.
    """

    def __init__(
        self, config: Config, space: Workspace | None = None, heads: Sequence[str] | None = None
    ) -> None:
        self.config, self.space = config, space or Workspace(config)
        self._heads = heads or [*config.tasks]
        self._experts: dict[str, Mapping[str, Value]] = {}
        self.base: dict[str, Tensor] = {}
        # The last vectors over which coefficients were learned, by their preparation and their tasks.
        self._vectors: tuple[tuple[str, ...], dict[str, Tau]] | None = None
        # Whether a merge has been written into the module since it was loaded.
        self._overwritten = False

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
        """The base's weights; the module's own tensors if they are exactly these."""
        if isinstance(self.space.family, Linearised):
            return replace(held(self.model), tensors=dict(self.space.family.theta_0))
        if self.space.dtype in (torch.float32, self.stored):
            return held(self.model)
        return held(self.space.load_folder(self.space.path("base"), self.stored))

    @cached_property
    def stored(self) -> torch.dtype:
        """The dtype in which the base is stored and its weights are kept beside the module."""
        return self.space.stored(self.space.path("base"))

    def deltas(self, signs: Mapping[str, int]) -> Deltas:
        """The weight deltas of some experts, negated where the sign is -1; each is loaded once.

        Adapters have deltas only of the weights that one of them changes: a share of all
        entries is a share of what was trained. For low-rank changes, theta_0 is the module's own
        tensor, which is the base's again; it holds until a merge is written there.
        """
        self._read(signs)
        return self._between(self._experts, signs)

    def _read(self, tasks: Iterable[str]) -> None:
        """Read the experts that are not in memory."""
        for task in tasks:
            if task not in self._experts:
                # Some adapters change a weight in proportion to the base's, which a merge has overwritten.
                self.restore(())
                self._experts[task] = self.space.state(task, self.theta_0)

    def _between(self, experts: Mapping[str, Mapping[str, Value]], signs: Mapping[str, int]) -> Deltas:
        """The deltas of some experts, negated where the sign is -1."""
        changed = {name for task in signs for name in experts[task]}
        dense = {name for task in signs for name, v in experts[task].items() if isinstance(v, Tensor)}
        mapped = {name for name in changed - dense if self._in_module(name)}
        if mapped and self.config.base.speaks:
            mapped -= {*self.theta_0.head}  # references read it, too
        self._keep(changed - mapped)
        self._keep(mapped, HOST)
        if self._overwritten:
            for name in mapped:
                self.parameters[name].copy_(self.base[name])
        base = {n: p if n in mapped else self.base[n] for n, p in self.parameters.items() if n in changed}
        states = {task: {**base, **experts[task]} for task in signs}
        turned = {task: _turned_around(state, base) for task, state in states.items() if signs[task] < 0}
        return Deltas(base, {**states, **turned}, self.parameters)

    @cached_property
    def _on_file(self) -> State:
        """The base's weights, mapped from its files once more: no memory of this process holds them."""
        return state_of(self.space.load_folder(self.space.path("base"), self.stored, HOST))

    def _in_module(self, name: str) -> bool:
        """Whether a weight of the base is in the module exactly, until a merge is written there."""
        return self.theta_0.tensors[name].data_ptr() == self.parameters[name].data_ptr()

    def _keep(self, names: Iterable[str], device: torch.device | None = None) -> None:
        """Keep the base's weights of these names, which merges are about to overwrite in the module.

        On ``device``, by default the module's; those that only low-rank factors change need not be there.
        """
        for name in names:
            if name not in self.base or (device is None and self.base[name].device == HOST):
                theta_0 = self._on_file[name] if self._in_module(name) else self.theta_0.tensors[name]
                self.base[name] = theta_0.to(device or self.space.device, self.stored)

    def restore(self, others: Iterable[str]) -> None:
        """Put the base's weights back into the module, except where other deltas are about to be written."""
        for name in self.base.keys() - set(others):
            self.parameters[name].copy_(self.base[name])

    def put(self, folder: Path) -> None:
        """Write a checkpoint of the base's architecture into the module.

        Raises:
            UserError: it is not one.
        """
        self._overwritten = True
        for name, theta in self.space.whole(folder, self.theta_0.tensors).items():
            self.parameters[name].copy_(theta)

    def task_vectors(self, over: str, tasks: Sequence[str]) -> dict[str, Tau]:
        """The vectors whose coefficients are learned: the deltas, or a method's preparation of them.

        The last ones are kept in place of the experts, so that nothing is in memory twice.
        """
        if self._vectors is None or self._vectors[0] != (over, *tasks):
            self._vectors = None
            self._overwritten = True
            plain = over in UNPREPARED and not any(map(self.space.adapts, tasks))
            self._vectors = (over, *tasks), self._stacked(tasks) if plain else self._prepared(over, tasks)
        return self._vectors[1]

    def _stacked(self, tasks: Sequence[str]) -> dict[str, Tau]:
        """The deltas of whole models; the weights themselves if all are stored in one half precision."""
        self._experts.clear()
        rounded = self.config.merge.delta_dtype == "bfloat16"
        half = not rounded and self._in_half(tasks)
        dtype = torch.bfloat16 if rounded else torch.float32
        stacks: dict[str, Tensor] = {}
        for t, task in enumerate(tasks):
            state = self.space.whole(self.space.path(task), self.theta_0.tensors, HOST)
            self._keep(state)
            for name, theta in state.items():
                if name not in stacks:
                    held = theta.dtype if half else dtype
                    device = self.base[name].device
                    stacks[name] = torch.empty(len(tasks), *theta.shape, dtype=held, device=device)
                stack = stacks[name][t]
                stack.copy_(theta if half else theta.to(stack.device) - self.base[name].float())
            del state, theta  # before the next is read
        return {name: Weights(stack) if half else stack for name, stack in stacks.items()}

    def _prepared(self, over: str, tasks: Sequence[str]) -> dict[str, Tau]:
        """A method's preparation of the deltas, or of the factors of adapters.

        Whole models are read from the files, which may be done several times: one prepared tensor may depend
        on all tensors. Of experts in half precision, vectors are rounded to bfloat16: the experts' own
        weights, which are larger than their changes, have been rounded by more.
        """
        self._experts.clear()
        self.restore(())
        experts = {task: self.space.state(task, self.theta_0, HOST) for task in tasks}
        prepared = prepare(over, self._between(experts, dict.fromkeys(tasks, 1)))
        asked = self.config.merge.delta_dtype
        half = self._in_half(tasks) if asked is None else asked == "bfloat16"
        dtype = torch.bfloat16 if half else torch.float32
        made: dict[str, Tau]
        made = {name: prepared.factors(name) or prepared[name].to(dtype).contiguous() for name in prepared}
        self._keep(name for name, vectors in made.items() if isinstance(vectors, Tensor))
        return made

    def _in_half(self, tasks: Sequence[str]) -> bool:
        """Whether experts are whole models that are all stored in one half precision."""
        if any(map(self.space.adapts, tasks)):
            return False
        dtypes = {self.space.stored(self.space.path(task)) for task in tasks}
        return len(dtypes) == 1 and dtypes.pop().itemsize == 2

    def blend(self, over: str, tasks: Sequence[str]) -> Blend:
        """The merges of vectors whose coefficients are learned."""
        vectors = self.task_vectors(over, tasks)
        self.restore(vectors)
        return Blend(self.model, self.base, vectors)


def _turned_around(state: Mapping[str, Value], base: State) -> dict[str, Value]:
    """An expert with its deltas negated."""
    return {
        name: LowRank(value.B, value.A, -value.scaling)
        if isinstance(value, LowRank)
        else 2 * base[name].float() - value.float()
        for name, value in state.items()
    }
