"""Merges of what is loaded: learned, written into the module, and scored."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch

from remerge import learn, sources
from remerge.config import Config, digest
from remerge.deltas import Deltas, State, added, without_tf32
from remerge.errors import UserError
from remerge.learn import Fit
from remerge.measures.references import Reference
from remerge.measures.score import score
from remerge.measures.words import word_head
from remerge.methods import Learning, Method, contained, find, repeatable
from remerge.plans import Case, Unmerged
from remerge.stages._loaded import Loaded
from remerge.stages._memory import forget_peak, peak
from remerge.stages._workspace import Workspace
from remerge.tau import Tau
from remerge.variants import UNPREPARED


@dataclass(frozen=True)
class Making:
    """How a merge was made.

    Attributes:
        fit: its coefficients, if they are learned.
        seconds: what merging took, besides learning.
        memory: the peak meanwhile: bytes allocated on a GPU, or resident bytes of the process.
    """

    fit: Fit | None
    seconds: float
    memory: int


class Bench(Loaded):
    """The models in memory, with the examples: learns and makes merges, and scores them."""

    def __init__(
        self, config: Config, space: Workspace | None = None, heads: Sequence[str] | None = None
    ) -> None:
        super().__init__(config, space, heads)
        self._references: dict[tuple[str, str], Reference] = {}
        self._remembered: dict[str, Making] = {}

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
            part = self.space.split(task, split)
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
                    f"tasks.{task}: its expert scores {value:.2g} on its own {split} split: train it further"
                )
            return value

        @cache
        def base(task: str) -> float:
            self.make_way([])
            return float(self.scores([task], split)[task]["value"])

        return Unmerged(own, base)

    def load(self, method: Method, settings: Mapping[str, Any], case: Case) -> None:
        """Read the parts of a merge, before it is timed."""
        if method.learned:
            self.task_vectors(method.learning(settings).over, case.tasks)
        else:
            self._read(case.signs)

    def make(self, method: Method, settings: Mapping[str, Any], case: Case, seed: int) -> Making:
        """Write a merge into the module; coefficients that are remembered are not learned again.

        Args:
            method: the method.
            settings: its settings.
            case: what is merged.
            seed: the seed of learning.
        """
        known = self._remembered.get(_key(method, settings, case, seed))
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
        return Making(fit, seconds, peak(self.space.device))

    def remember(self, method: Method, settings: Mapping[str, Any], case: Case, seed: int) -> None:
        """As `make`, for a merge that may be made again: its coefficients are remembered."""
        made = self.make(method, settings, case, seed)
        if made.fit:
            self._remembered[_key(method, settings, case, seed)] = made

    @without_tf32()
    def merge(self, method: Method, settings: Mapping[str, Any], signs: Mapping[str, int]) -> None:
        """Write a merge that needs no learning into the module."""
        weights, given = self._given(method, signs)
        with contained(method.name, weights, given.get("statistics"), self.parameters):
            for name, delta in method.merge(weights, settings, **given):
                self.parameters[name].copy_(added(weights.base[name], delta))

    @without_tf32()
    def rescaled(
        self, method: Method, settings: Mapping[str, Any], signs: Mapping[str, int]
    ) -> Callable[[float], None]:
        """Merge once by a method that rescales; the result writes the merge into the module at any scale."""
        weights, given = self._given(method, signs)
        with contained(method.name, weights, given.get("statistics")):
            made = dict(method.vectors(weights, settings, **given).combine([1.0] * len(signs)))

        def write(scale: float) -> None:
            self.make_way(made)
            for name, delta in made.items():
                theta_0 = self._placed.get(name, self.theta_0.tensors[name]).to(delta.device)
                self.parameters[name].copy_(torch.add(theta_0, delta, alpha=scale))

        return write

    def _given(self, method: Method, signs: Mapping[str, int]) -> tuple[Deltas, dict[str, Any]]:
        """The deltas, and statistics if asked for; the module's other weights are set back to the base's."""
        # One of a user's own may read any tensor of the base again after its merge has been written.
        weights, given = self.deltas(signs, apart=method.name in sources.OWN), {}
        kind = method.needs.statistics
        if kind:
            given = {"statistics": {task: self.space.statistics(task, kind) for task in signs}}
        self.make_way(weights)
        return weights, given

    def fit(self, method: Method, settings: Mapping[str, Any], tasks: Sequence[str], seed: int) -> Fit:
        """Learn a merge's coefficients and leave the merge in the module."""
        how = method.learning(settings)
        vectors = self.task_vectors(how.over, tasks)
        base = self.base_of(vectors)
        self.make_way(vectors)
        # Read before: PEFT draws factors that the stored ones of an adapter then replace.
        references = self._answered(method, how, tasks, base, vectors)
        with repeatable(method.name, [self.space.device]):
            return learn.fit(
                self.space.family,
                self.model,
                base,
                vectors,
                references,
                method.objective(settings),
                level=how.level,
                learning_rate=how.learning_rate,
                initial=how.start(len(tasks)),
                epochs=how.epochs,
                batch_size=self.config.learning.batch_size,
                seed=seed,
                answer=how.answer,
            )

    def _answered(
        self, method: Method, how: Learning, tasks: Sequence[str], base: State, vectors: Mapping[str, Tau]
    ) -> list[Reference]:
        """The references from which coefficients are learned, on the device.

        Heads are made of base and vectors where these are the experts, neither prepared nor rounded: so they
        are not held twice. Else they are mapped from the experts' files.
        """
        references = [self.inputs(task, how) for task in tasks]
        if not method.needs.answers:
            references = [reference.first_tokens for reference in references]
        elif self.config.base.speaks:
            names = self.theta_0.head
            exact = how.over in UNPREPARED and self.config.merge.delta_dtype != "bfloat16"
            if exact or not vectors.keys() & {*names}:
                own = partial(learn.parts, self.parameters, base, vectors)
                references = [
                    replace(reference, head=word_head(names, partial(own, t)))
                    for t, reference in enumerate(references)
                ]
        return [reference.to(self.space.device) for reference in references]


def used_settings(method: Method, settings: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A method's settings with defaults that depend on the number of experts, ``count``, written out."""
    used = dict(settings)
    if method.learned:
        how = method.learning(settings)
        used |= {"inputs": how.size, "initial": how.start(count)}
    return used


def _key(method: Method, settings: Mapping[str, Any], case: Case, seed: int) -> str:
    """Everything that learned coefficients depend on, within a benchmark."""
    return digest(method.name, used_settings(method, settings, len(case.tasks)), case.tasks, seed)
