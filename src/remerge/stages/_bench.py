"""Base, experts and examples in memory, and the one module that merges are written into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from remerge import learn
from remerge.checkpoints.models import state_of
from remerge.config import Config, Variant, digest
from remerge.deltas import Deltas, State, Value
from remerge.errors import UserError
from remerge.files import read_json
from remerge.learn import Fit, Tau
from remerge.measures.references import Reference
from remerge.measures.score import Split, score
from remerge.methods import Method, find, prepare
from remerge.sources import sources_of
from remerge.stages._workspace import Workspace


@dataclass(frozen=True)
class Choice:
    """What a learned method is fitted with, beside its own parameters."""

    learning_rate: float
    initial: float | str

    def start(self, count: int) -> float:
        """The coefficients' first value for ``count`` experts."""
        return 1 / count if self.initial == "1/T" else float(self.initial)


class Bench:
    """Base, experts and examples in memory, and the one module that merges are written into."""

    def __init__(self, config: Config) -> None:
        self.config, self.space = config, Workspace(config)
        self._experts: dict[str, Mapping[str, Value]] = {}
        self.base: dict[str, Tensor] = {}
        self._splits: dict[tuple[str, str], Split] = {}
        self._references: dict[str, Reference] = {}

    @cached_property
    def model(self) -> nn.Module:
        """The module that each merge is written into, with every task's head."""
        return self.space.load("base", list(self.config.tasks))

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The module's parameters by name, without the heads of tasks."""
        return state_of(self.model)

    @cached_property
    def theta_0(self) -> State:
        """The base's weights, float32, as `Workspace.state` has the experts'."""
        if self.space.dtype == torch.float32:
            return self.parameters
        return state_of(self.space.load_folder(self.space.path("base"), torch.float32))

    def deltas(self, subset: Sequence[str]) -> Deltas:
        """The weight deltas of some experts; each is loaded once.

        Adapters have deltas of the weights that one of them changes, and only of these: a share of all
        entries is a share of what was trained.
        """
        for task in subset:
            if task not in self._experts:
                self._experts[task] = self.space.state(task, self.theta_0)
        changed = {name for task in subset for name in self._experts[task]}
        for name in changed - self.base.keys():
            self.base[name] = self.theta_0[name].clone()
        base = {name: self.base[name] for name in self.parameters if name in changed}
        return Deltas(base, {task: {**base, **self._experts[task]} for task in subset})

    def restore(self, others: Deltas) -> None:
        """Put the base's weights back into the module, save where other deltas are about to be put."""
        for name in self.base.keys() - others.keys():
            self.parameters[name].copy_(self.base[name])

    def split(self, task: str, split: str) -> Split:
        """A split, read once."""
        if (task, split) not in self._splits:
            self._splits[task, split] = self.space.split(task, split)
        return self._splits[task, split]

    def reference(self, task: str) -> Reference:
        """A reference, read once."""
        if task not in self._references:
            self._references[task] = self.space.reference(task)
        return self._references[task]

    def scores(self, tasks: Sequence[str], split: str) -> dict[str, Any]:
        """The module's score on each task."""
        size = self.config.evaluation.batch_size
        found = {}
        for task in tasks:
            part = self.split(task, split)
            found[task] = score(self.space.family, self.model, part, size)
        return found

    def merge(self, method: Method, settings: Mapping[str, Any], subset: Sequence[str]) -> None:
        """Write a merge that needs no learning into the module."""
        weights, given = self.deltas(subset), {}
        kind = method.needs.statistics
        if kind:
            given = {"statistics": {task: self.space.statistics(task, kind) for task in subset}}
        self.restore(weights)
        for name, delta in method.function(weights, **settings, **given):
            self.parameters[name].copy_(delta.add_(self.base[name]))

    def task_vectors(self, settings: Mapping[str, Any], weights: Deltas) -> dict[str, Tau]:
        """What coefficients are learned over, held in memory: the deltas, or what a method made of them."""
        prepared = prepare(settings["over"], weights)
        dtype = getattr(torch, self.config.merge.delta_dtype)
        return {name: prepared.factors(name) or prepared[name].to(dtype) for name in prepared}

    def fit(self, method: Method, settings: Mapping[str, Any], choice: Choice, subset: Sequence[str]) -> Fit:
        """Learn a merge's coefficients and leave the merge in the module."""
        learning, weights = self.config.learning, self.deltas(subset)
        level = settings["level"]
        inputs = getattr(learning.inputs, level)
        references = [self.reference(task).first(inputs) for task in subset]
        if not method.needs.answers:
            references = [reference.first_tokens for reference in references]
        self.restore(weights)
        return learn.fit(
            self.space.family,
            self.model,
            weights.base,
            self.task_vectors(settings, weights),
            references,
            method.objective(settings),
            level=level,
            learning_rate=choice.learning_rate,
            initial=choice.start(len(subset)),
            epochs=epochs_of(self.config, method),
            batch_size=learning.batch_size,
            seed=self.config.seed,
        )


def epochs_of(config: Config, method: Method) -> int:
    """Passes over the inputs for a learned method.

    Raises:
        UserError: the configuration has no number for it.
    """
    if method.name not in config.learning.epochs:
        raise UserError(f"learning.epochs: no number for {method.name}: add a line {method.name}: 4")
    return config.learning.epochs[method.name]


def selected(config: Config, variant: str) -> Choice:
    return Choice(**read_json(config.folder / "selection" / f"{variant}.json")["chosen"])


def key_of(bench: Bench, variant: Variant, subset: Sequence[str], choice: Choice | None = None) -> str:
    """Everything a merge's scores follow from."""
    config, method = bench.config, find(variant.method)
    records = [bench.space.record(model)["fingerprint"] for model in ("base", *subset)]
    tests = [bench.split(task, "test").digest for task in subset]
    parts: list[Any] = [records, tests, method.name, method.settings(variant.params), str(bench.space.dtype)]
    if method.needs.statistics:
        parts += [
            [bench.split(task, "train").digest for task in subset],
            config.statistics.inputs,
            config.seed,
        ]
    if method.learned:
        inputs = [bench.split(task, "validation").digest for task in subset]
        chosen = choice or selected(config, variant.name)
        learning = config.learning.model_dump(exclude={"select"})
        parts += [inputs, vars(chosen), learning, config.merge.delta_dtype, config.seed]
    return digest(parts, [file.read_text() for file in sources_of(variant.method, variant.params)])
