"""Base, experts and examples in memory, and the one module that merges are written into."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from remerge import learn
from remerge.blend import Blend
from remerge.checkpoints.models import held, state_of
from remerge.checkpoints.reading import Checkpoint
from remerge.config import Config, digest
from remerge.deltas import Deltas, LowRank, State, Value
from remerge.errors import UserError
from remerge.families.linearised import Linearised
from remerge.learn import Fit
from remerge.measures.references import Reference
from remerge.measures.score import Split, score
from remerge.measures.words import word_head
from remerge.methods import Learning, Method, find, prepare
from remerge.plans import Case, Unmerged
from remerge.stages._memory import forget_peak, peak
from remerge.stages._workspace import Workspace
from remerge.tau import Tau, Weights

HOST = torch.device("cpu")
"""Where models are mapped from their files, which takes no memory that cannot be taken back."""


@dataclass(frozen=True)
class Made:
    """How a merge was made.

    Attributes:
        fit: its coefficients, if they are learned.
        seconds: what merging took, besides learning.
        memory: the peak meanwhile: bytes allocated on a GPU, or resident bytes of the process.
    """

    fit: Fit | None
    seconds: float
    memory: int


class Bench:
    """Base, experts and examples in memory, and the one module that merges are written into."""

    def __init__(self, config: Config, space: Workspace | None = None) -> None:
        self.config, self.space = config, space or Workspace(config)
        self._experts: dict[str, Mapping[str, Value]] = {}
        self.base: dict[str, Tensor] = {}
        self._references: dict[tuple[str, str], Reference] = {}
        self._vectors: tuple[tuple[str, ...], dict[str, Tau]] | None = None
        self._made: dict[str, Made] = {}
        self._overwritten = False

    @cached_property
    def model(self) -> nn.Module:
        """The module that each merge is written into, with every task's head."""
        return self.space.load("base", list(self.config.tasks))

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
        return Deltas(base, {**states, **turned})

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

    def split(self, task: str, split: str) -> Split:
        """A split as the models read it."""
        return self.space.split(task, split)

    def reference(self, task: str, kind: str = "") -> Reference:
        """A reference, read once."""
        if (task, kind) not in self._references:
            self._references[task, kind] = self.space.reference(task, kind)
        return self._references[task, kind]

    def inputs(self, task: str, how: Learning) -> Reference:
        """The inputs of a task from which coefficients are learned; stand-ins replace the first of them.

        Raises:
            UserError: there are too few stand-ins.
        """
        own = self.reference(task).first(how.size)
        count = round(how.replaced * len(own.examples))
        if not count:
            return own
        others = self.reference(task, how.stand_ins).first(count)
        if len(others.examples) < count:
            raise UserError(
                f"tasks.{task}: only {len(others.examples)} inputs to replace {count}: take fewer inputs, or "
                f"more validation examples of {self.config.next_task(task)}"
            )
        return Reference(others.examples + own.examples[count:], others.rows + own.rows[count:], own.head)

    def scores(self, tasks: Sequence[str], split: str, among: Sequence[str] = ()) -> dict[str, Any]:
        """The module's score on each task; the joint one too on those ``among`` which inputs are judged."""
        size, labels = self.config.evaluation.batch_size, self.space.labels_of(among)
        found = {}
        for task in tasks:
            part = self.split(task, split)
            found[task] = score(self.space.family, self.model, part, size, labels if task in among else None)
        return found

    def unmerged(self, split: str) -> Unmerged:
        """The scores of each task's own expert and of the base, computed when they are needed."""

        @cache
        def own(task: str) -> float:
            average = find("average")
            self.merge(average, average.settings({}), {task: 1})
            if self._vectors:
                self._experts.clear()  # the vectors contain them
            value = float(self.scores([task], split)[task]["value"])
            if value <= 0:
                raise UserError(
                    f"tasks.{task}: its expert scores 0 on its own {split} split: train it further"
                )
            return value

        @cache
        def base(task: str) -> float:
            self.restore([])
            return float(self.scores([task], split)[task]["value"])

        return Unmerged(own, base)

    def load(self, method: Method, settings: Mapping[str, Any], case: Case) -> None:
        """Read the parts of a merge, before it is timed."""
        if method.learned:
            self.task_vectors(method.learning(settings).over, case.tasks)
        else:
            self._read(case.signs)

    def make(
        self, method: Method, settings: Mapping[str, Any], case: Case, seed: int, again: bool = False
    ) -> Made:
        """Write a merge into the module.

        Args:
            method: the method.
            settings: its settings.
            case: what is merged.
            seed: the seed of learning.
            again: whether the merge may be made again: its coefficients are then not learned again.
        """
        key = digest(method.name, used_settings(method, settings, len(case.tasks)), case.tasks, seed)
        known = self._made.get(key)
        if known and known.fit:
            blend = self.blend(method.learning(settings).over, case.tasks)
            blend.write(known.fit.lam.to(self.space.device))
            return known
        forget_peak(self.space.device)
        started, fit = time.perf_counter(), None
        if method.learned:
            fit = self.fit(method, settings, case.tasks, seed)
        else:
            self.merge(method, settings, case.signs)
        seconds = time.perf_counter() - started - (fit.seconds if fit else 0.0)
        made = Made(fit, seconds, peak(self.space.device))
        if again and fit:
            self._made[key] = made
        return made

    def merge(self, method: Method, settings: Mapping[str, Any], signs: Mapping[str, int]) -> None:
        """Write a merge that needs no learning into the module."""
        for name, delta in self._merged(method, settings, signs):
            self.parameters[name].copy_(delta.add_(self.base[name].to(delta.device)))

    def rescaled(
        self, method: Method, settings: Mapping[str, Any], signs: Mapping[str, int]
    ) -> Callable[[float], None]:
        """Merge once by a method that rescales; the result writes the merge into the module at any scale."""
        made = dict(self._merged(method, {**settings, "scale": 1.0}, signs))

        def write(scale: float) -> None:
            self.restore(made)
            for name, delta in made.items():
                theta_0 = self.base[name].to(delta.device)
                self.parameters[name].copy_(torch.add(theta_0, delta, alpha=scale))

        return write

    def _merged(
        self, method: Method, settings: Mapping[str, Any], signs: Mapping[str, int]
    ) -> Iterator[tuple[str, Tensor]]:
        """The merged deltas; the module's other weights are set back to the base's."""
        weights, given = self.deltas(signs), {}
        kind = method.needs.statistics
        if kind:
            given = {"statistics": {task: self.space.statistics(task, kind) for task in signs}}
        self.restore(weights)
        self._overwritten = True
        yield from method.function(weights, **settings, **given)

    def task_vectors(self, over: str, tasks: Sequence[str]) -> dict[str, Tau]:
        """The vectors whose coefficients are learned: the deltas, or a method's preparation of them.

        The last ones are kept in place of the experts, so that nothing is in memory twice.
        """
        if self._vectors is None or self._vectors[0] != (over, *tasks):
            self._vectors = None
            self._overwritten = True
            plain = over in ("", "none") and not any(map(self.space.adapts, tasks))
            self._vectors = (over, *tasks), self._stacked(tasks) if plain else self._prepared(over, tasks)
        return self._vectors[1]

    def _stacked(self, tasks: Sequence[str]) -> dict[str, Tau]:
        """The deltas of whole models; the weights themselves if all are stored in one half precision."""
        self._experts.clear()
        folders = [self.space.path(task) for task in tasks]
        dtypes = {*map(self.space.stored, folders)}
        dtype = getattr(torch, self.config.merge.delta_dtype)
        half = dtype == torch.float32 and len(dtypes) == 1 and dtype not in dtypes
        stacks: dict[str, Tensor] = {}
        for t, folder in enumerate(folders):
            state = self.space.whole(folder, self.theta_0.tensors, HOST)
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
        on all tensors.
        """
        self._experts.clear()
        self.restore(())
        experts = {task: self.space.state(task, self.theta_0, HOST) for task in tasks}
        prepared = prepare(over, self._between(experts, dict.fromkeys(tasks, 1)))
        dtype = getattr(torch, self.config.merge.delta_dtype)
        made: dict[str, Tau]
        made = {name: prepared.factors(name) or prepared[name].to(dtype).contiguous() for name in prepared}
        self._keep(name for name, vectors in made.items() if isinstance(vectors, Tensor))
        return made

    def blend(self, over: str, tasks: Sequence[str]) -> Blend:
        """The merges of vectors whose coefficients are learned."""
        vectors = self.task_vectors(over, tasks)
        self.restore(vectors)
        return Blend(self.model, self.base, vectors)

    def fit(self, method: Method, settings: Mapping[str, Any], tasks: Sequence[str], seed: int) -> Fit:
        """Learn a merge's coefficients and leave the merge in the module."""
        how = method.learning(settings)
        vectors = self.task_vectors(how.over, tasks)
        self.restore(vectors)
        return learn.fit(
            self.space.family,
            self.model,
            self.base,
            vectors,
            self._answered(method, how, tasks, vectors),
            method.objective(settings),
            level=how.level,
            learning_rate=how.learning_rate,
            initial=how.start(len(tasks)),
            epochs=how.epochs,
            batch_size=self.config.learning.batch_size,
            seed=seed,
        )

    def _answered(
        self, method: Method, how: Learning, tasks: Sequence[str], vectors: Mapping[str, Tau]
    ) -> list[Reference]:
        """What coefficients are learned from, on the device.

        Heads are made of base and vectors where these are the experts, neither prepared nor rounded: so they
        are not held twice. Else they are mapped from the experts' files.
        """
        references = [self.inputs(task, how) for task in tasks]
        if not method.needs.answers:
            references = [reference.first_tokens for reference in references]
        elif self.config.base.speaks:
            names = self.theta_0.head
            exact = how.over in ("", "none") and self.config.merge.delta_dtype == "float32"
            if exact or not vectors.keys() & {*names}:
                own = partial(learn.parts, self.parameters, self.base, vectors)
                references = [
                    replace(reference, head=word_head(names, partial(own, t)))
                    for t, reference in enumerate(references)
                ]
        return [reference.to(self.space.device) for reference in references]

    def put(self, folder: Path) -> None:
        """Write a checkpoint of the base's architecture into the module.

        Raises:
            UserError: it is not one.
        """
        self._overwritten = True
        for name, theta in self.space.whole(folder, self.theta_0.tensors).items():
            self.parameters[name].copy_(theta)


def used_settings(method: Method, settings: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A method's settings with defaults that depend on the number of experts, ``count``, written out."""
    used = dict(settings)
    if method.learned:
        how = method.learning(settings)
        used |= {"inputs": how.size, "initial": how.start(count)}
    return used


def _turned_around(state: Mapping[str, Value], base: State) -> dict[str, Value]:
    """An expert with its deltas negated."""
    return {
        name: LowRank(value.B, value.A, -value.scaling)
        if isinstance(value, LowRank)
        else 2 * base[name].float() - value.float()
        for name, value in state.items()
    }
