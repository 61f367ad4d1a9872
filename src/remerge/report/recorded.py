"""The records of one run, read when they are needed, and checked to be complete."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from remerge import config as configuration
from remerge.config import Config
from remerge.errors import Stale, UserError
from remerge.outcomes import unpack
from remerge.records import (
    Alignment,
    Cost,
    Data,
    Divergence,
    Divergences,
    Lengths,
    Merge,
    Model,
    Reference,
    Score,
    Scores,
    Selection,
    Weights,
)
from remerge.report.labels import printed
from remerge.variants import is_tuned, start_of

OfExperts = TypeVar("OfExperts", Weights, Alignment)

ROUNDING = 1e-3
"""The largest difference between mean outcome and score: each outcome is rounded by less than 0.0003."""


@dataclass(frozen=True)
class Variant:
    """A merge method with its parameters, in the configuration's order."""

    name: str
    method: str
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The name in print."""
        return str(printed(self.name, self.params))


class Recorded:
    """The records of one benchmark; only files that are needed are read."""

    def __init__(self, results: Path) -> None:
        """Take the folder ``results/<benchmark>``."""
        self.results = Path(results)

    @cached_property
    def config(self) -> Config:
        """The configuration."""
        path = self.results / "config.yaml"
        if not path.is_file():
            raise UserError(
                f"{self.results}: not the folder of a run (no {path.name}): name results/<benchmark>"
            )
        return configuration.load(path)

    @property
    def benchmark(self) -> str:
        """The benchmark's name."""
        return self.config.benchmark

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the configuration's order."""
        return list(self.config.tasks)

    @property
    def sizes(self) -> list[int]:
        """The numbers of merged tasks, ascending."""
        return sorted(self.config.sizes)

    @cached_property
    def variants(self) -> list[Variant]:
        """The merge methods, in the configuration's order."""
        return [Variant(v.name, v.method, self.config.params(v)) for v in self.config.merge.variants]

    @property
    def references(self) -> list[str]:
        """The unmerged models that merges are compared with: the base, and the multitask model if any."""
        return [model for model in self.config.models if model not in self.config.tasks]

    def model(self, name: str) -> Model:
        """The record of the base, the multitask model or an expert."""
        return Model.read(self.results, model=name)

    def data(self, task: str) -> Data:
        """Findings in a task's examples."""
        return Data.read(self.results, task=task)

    @cached_property
    def lengths(self) -> Lengths | None:
        """The lengths of prompts, if inputs are texts."""
        return Lengths.read(self.results) if self.config.base.reads == "text" else None

    def reference(self, task: str) -> Reference | None:
        """The size and cost of an expert's stored answers, if the run needed them."""
        made = Reference.place(self.results, task=task).exists()
        return Reference.read(self.results, task=task) if made else None

    @property
    def jobs(self) -> list[str]:
        """The jobs with recorded costs."""
        folder = self.results / "costs"
        return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.json"))

    def cost(self, job: str) -> Cost:
        """The time and memory of a job."""
        return Cost.read(self.results, job=job)

    def selections(self) -> list[tuple[Variant, Selection]]:
        """The grids of all tuned variants and their choices, for each of their plans."""
        return [
            (variant, self.selection(variant.name, plan))
            for variant in self.variants
            for plan in self.config.chosen_for(self.config.variant(variant.name))
        ]

    def selection(self, variant: str, plan: str) -> Selection:
        """The grid of a tuned variant, and its choice for a plan."""
        return Selection.read(self.results, variant=variant, plan=plan, benchmark=self.benchmark)

    def scores(self, model: str) -> dict[str, Score]:
        """One unmerged model's scores by task; those on tasks that were removed are left out."""
        scores = Scores.read(self.results, model=model, benchmark=self.benchmark).scores
        self._must_have(scores, "score", Scores.place(self.results, model=model))
        return {task: scores[task] for task in self.tasks}

    @cached_property
    def own(self) -> dict[str, Score]:
        """The score of every task's own expert."""
        return {task: self.scores(task)[task] for task in self.tasks}

    def unmerged_outcomes(self, model: str, task: str) -> NDArray[np.float64]:
        """The score of an unmerged model on each example of a task's test split, ``[n]``, from 0 to 1."""
        return self._outcomes(task, self.scores(model)[task], Scores.place(self.results, model=model))

    def outcomes(self, variant: str, merge: Merge) -> dict[str, NDArray[np.float64]]:
        """The same for a merge of subsets, on each of its tasks."""
        path = Merge.place(self.results, variant=variant, group=merge.size)
        return {task: self._outcomes(task, score, path) for task, score in merge.scores.items()}

    @cached_property
    def weights(self) -> Weights:
        """How similar the experts' weights are."""
        return self._of_the_experts(Weights)

    @cached_property
    def alignment(self) -> Alignment:
        """How similarly the experts process inputs."""
        return self._of_the_experts(Alignment)

    def merges(self, variant: str, group: int | str) -> list[Merge]:
        """Every merge of a group by ``variant``, in order, checked to be complete and without repetitions.

        A group is a size of the subsets, or a group of another plan. It is empty if
        the variant does not make it: SLERP makes only pairs.
        """
        plan = self._groups[variant].get(str(group))
        if plan is None:
            return []
        asked = {case.name: place for place, case in enumerate(self.config.cases(plan)[str(group)])}
        found = Merge.read_lines(self.results, variant=variant, group=group, benchmark=self.benchmark)
        path = Merge.place(self.results, variant=variant, group=group)
        made = [(merge.case, merge.seed) for merge in found]
        seeds = self.config.variant(variant).seeds
        counts = Counter(case for case, _ in made)
        lacks = {case for case in asked if counts[case] < seeds}
        if lacks:
            which = f" with each of {seeds} seeds" if seeds > 1 else ""
            raise UserError(f"{path} has no merge of {min(lacks)}{which}: run its stage again")
        if len({*made}) < len(made) or {case for case, _ in made} != asked.keys():
            raise UserError(f"{path} has repeated merges, or merges of other tasks: run its stage again")
        self._must_be_asked_for(variant, found, path)
        # An earlier configuration may have named them in another order.
        return sorted(found, key=lambda merge: (asked[merge.case], merge.seed))

    @cached_property
    def _groups(self) -> dict[str, dict[str, str]]:
        """The groups of merges that each variant makes, each with its plan."""
        return {variant.name: self.config.groups(variant) for variant in self.config.merge.variants}

    def divergences(self, model: str) -> dict[str, Divergence]:
        """How far an expert is from each task's own."""
        found = Divergences.read(self.results, model=model, benchmark=self.benchmark).divergences
        self._must_have(found, "divergence", Divergences.place(self.results, model=model))
        return {task: found[task] for task in self.tasks}

    def _of_the_experts(self, kind: type[OfExperts]) -> OfExperts:
        found = kind.read(self.results, benchmark=self.benchmark)
        if found.experts != self.tasks:
            raise UserError(f"{kind.place(self.results)} belongs to other tasks: delete it and run again")
        return found

    def _outcomes(self, task: str, score: Score, path: Path) -> NDArray[np.float64]:
        if score.outcomes is None:
            raise UserError(f"{path} has no outcomes of single examples: delete it and run again")
        found = unpack(score.outcomes, score.metric, score.n)
        if len(found) != self.own[task].n or abs(found.mean() - score.value) > ROUNDING:
            raise UserError(f"{path} has outcomes that do not fit its scores: delete it and run again")
        return found

    def _must_be_asked_for(self, variant: str, merges: Sequence[Merge], path: Path) -> None:
        """Refuse merges of other settings than the configuration's, as a run that was stopped leaves them.

        Those that are tuned are free, and fewer inputs may be there than are asked for.
        """
        given = self.config.params(self.config.variant(variant))
        asked = {key: x for key, x in given.items() if not is_tuned(x) and key not in ("inputs", "seed")}
        pairs: list[tuple[str, Any, Any]] = []
        for merge in merges:
            start = {"initial": start_of(asked["initial"], merge.size)} if "initial" in asked else {}
            pairs += [(key, merge.params.get(key, now), now) for key, now in {**asked, **start}.items()]
        if "seed" not in merges[0].params:  # those of a random method count from its own
            pairs.append(("seed", min(merge.seed for merge in merges), self.config.seed))
        for key, then, now in pairs:
            if then != now:
                said = f"{path} was made with {key} {then}, not {now} as the configuration says"
                raise Stale(f"{said}: run its stage again")

    def _must_have(self, found: Mapping[str, Any], what: str, path: Path) -> None:
        for task in self.tasks:
            if task not in found:
                raise UserError(f"{path} has no {what} on {task}: delete it and run again")
