"""The configuration of one benchmark, and the merges, models and paths that follow from it."""

from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model, field_validator, model_validator

from remerge import sources
from remerge.config._section import Count, Name, Section, TaskName
from remerge.config.agreement import check_agreement
from remerge.config.merging import Evaluation, Learning, Merge, Statistics, Tune, Variant
from remerge.config.models import Base, Finetune
from remerge.config.tasks import Task
from remerge.errors import UserError, unknown
from remerge.plans import Case, Plan, known
from remerge.sources import Known
from remerge.variants import Grid, is_tuned

RESULTS = Path("results")
"""The folder of all results, in the working directory."""

Plans: Any = create_model(
    "Plans",
    __base__=Section,
    __doc__="Which merges are made and which tasks judge them: one key per plan.",
    # Every benchmark merges subsets; its report is about them.
    **{name: (plan, plan()) if name == "subsets" else (plan | None, None) for name, plan in known().items()},  # type: ignore[call-overload]
)


@cache
def _cases(kind: type[Plan], said: str, tasks: tuple[str, ...], seed: int) -> dict[str, list[Case]]:
    """A plan's merges, cached: every rule asks for them, and there may be a hundred thousand."""
    return kind.model_validate_json(said).cases(tasks, seed)


class Config(Section):
    """One benchmark."""

    benchmark: Name
    paper: Name | None = Field(
        None, description="the paper whose tables and figures are made: a folder of remerge.exhibits"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    threads: Count = Field(1, description="CPU threads per job; the exact bytes of results depend on it")
    shards: Count = Field(
        1,
        description="number of jobs that make the merges of a method (of each variant, if the method "
        "learns): one job also chooses tuned parameters; among several, first the trials of the choice and "
        "then the merges are divided. On a cluster the default is the number of sizes of subsets. Results do "
        "not depend on it",
    )
    container: str | None = Field(
        None,
        description="an image in which jobs run with Snakemake's --software-deployment-method apptainer: a "
        ".sif file, relative to the working directory, or docker://…; remerge.sif if not given; results do "
        "not depend on it",
    )
    base: Base
    parameters: Annotated[float, Field(gt=0, le=1e7)] | None = Field(
        None,
        description="size of the base in millions of merged weights, used to predict the needs of jobs until "
        "its files are available; results do not depend on it",
    )
    tasks: dict[TaskName, Task] = Field(min_length=2)
    finetune: Finetune = Finetune()
    merge: Merge
    tune: Tune = Tune()
    plans: Plans = Plans()
    methods: list[Path] = Field(
        [],
        description="files of merge methods of your own, each named after its method, as those in "
        "src/remerge/methods",
    )
    rules: list[Path] = Field(
        [],
        description="Snakemake files that write merges as folders, external/<variant>/<task+task>/ in the "
        "results; each variant has the name of its file",
    )
    learning: Learning = Learning()
    statistics: Statistics = Statistics()
    evaluation: Evaluation = Evaluation()

    @property
    def folder(self) -> Path:
        """The folder of everything that this benchmark writes."""
        return RESULTS / self.benchmark

    @property
    def models(self) -> list[str]:
        """The models that are not merged: the base, the multitask model if there is one, every expert."""
        return ["base", *(["multitask"] if self.finetune.multitask else []), *self.tasks]

    @property
    def sizes(self) -> list[int]:
        """The sizes of the subsets that are merged."""
        return [int(group) for group in self.cases("subsets")]

    def subsets(self, size: int) -> list[tuple[str, ...]]:
        """The subsets of a size that are merged, each sorted."""
        return [case.tasks for case in self.cases("subsets")[str(size)]]

    @cached_property
    def known(self) -> dict[str, Known]:
        """The methods that exist when the configuration is first asked for them, by name."""
        return sources.known()

    @property
    def own(self) -> set[str]:
        """The methods of the configuration's own files."""
        return {file.stem for file in self.methods}

    @property
    def external(self) -> list[str]:
        """The variants that the user's own rules write."""
        return [file.stem for file in self.rules]

    @property
    def planned(self) -> dict[str, Plan]:
        """The plans that the configuration has, by name."""
        return {name: plan for name, plan in self.plans if plan is not None}

    def cases(self, plan: str) -> dict[str, list[Case]]:
        """The merges of a plan, by group."""
        asked = self.planned[plan]
        return _cases(type(asked), asked.model_dump_json(), tuple(self.tasks), self.seed)

    def groups(self, variant: Variant) -> dict[str, str]:
        """The groups of merges that a variant makes, each with its plan."""
        return {
            group: name
            for name, plan in self.planned.items()
            for group, cases in self.cases(name).items()
            if self._takes(variant, name, plan, cases)
        }

    def makers(self, *sizes: int) -> list[Variant]:
        """The variants that make the subsets of each of these sizes; none if there are no subsets of one."""
        groups = {str(size) for size in sizes}
        return [variant for variant in self.merge.variants if groups <= self.groups(variant).keys()]

    def _takes(self, variant: Variant, name: str, plan: Plan, cases: list[Case]) -> bool:
        """Whether a variant makes a group of a plan's merges."""
        if plan.variants is not None and variant.name not in plan.variants:
            return False
        if variant.name in self.external:
            return name == "subsets"
        return self._can_make(variant, cases)

    def _can_make(self, variant: Variant, cases: list[Case]) -> bool:
        """Whether a variant's method can make all of some merges."""
        known = self.known[variant.method]
        if known.experts is not None and any(len(case.signs) != known.experts for case in cases):
            return False
        # A subtracted vector has no inputs to learn from, and no statistics of its own.
        plain = not known.learned and known.statistics is None
        return plain or all(sign > 0 for case in cases for sign in case.signs.values())

    def params(self, variant: Variant) -> dict[str, Any]:
        """A variant's parameters from the configuration: its own override those of its method."""
        return {**self.merge.defaults.get(variant.method, {}), **variant.params}

    def grid(self, variant: Variant) -> Grid:
        """Every combination of the tuned parameters' values."""
        return Grid(self.params(variant))

    def over(self, variant: Variant) -> list[str]:
        """What may prepare the vectors over which a variant learns, as written; ``none`` for nothing."""
        points = [{**self.params(variant), **point} for point in self.grid(variant).sample]
        return list(dict.fromkeys(str(params.get("over", "none")) for params in points))

    def is_searched(self, variant: Variant) -> bool:
        """Whether only part of a variant's grid is tried."""
        return self.tune.search != "grid" and self.grid(variant).size > self.tune.trials

    def trials(self, variant: Variant) -> int:
        """The number of points of a variant's grid that are tried."""
        return self.tune.trials if self.is_searched(variant) else self.grid(variant).size

    def is_tuned(self, variant: Variant) -> bool:
        """Whether a parameter of a variant is chosen on validation scores."""
        return any(map(is_tuned, self.params(variant).values()))

    def chosen_for(self, variant: Variant) -> list[str]:
        """The plans for which a variant's parameters are chosen on validation scores, for each separately."""
        return list(dict.fromkeys(self.groups(variant).values())) if self.is_tuned(variant) else []

    def tuning(self, variant: Variant, plan: str) -> list[Case]:
        """The merges on which a variant's parameters are chosen for a plan, of those that it can make."""
        groups = self.groups(variant)
        made = {group: cases for group, cases in self.cases(plan).items() if groups.get(group) == plan}
        return [case for case in self.planned[plan].tuning(made) if self._can_make(variant, [case])]

    @property
    def stand_ins(self) -> list[str]:
        """The kinds of inputs that replace a task's own under a learned variant."""
        return sorted({kind for variant in self.merge.variants for kind in self.stand_ins_of(variant)})

    def stand_ins_of(self, variant: Variant) -> list[str]:
        """The kinds that one variant needs."""
        learned = self.is_learned(variant)
        points = [{**self.params(variant), **point} for point in self.grid(variant).sample] if learned else []
        return sorted({str(p.get("stand_ins", "shuffled")) for p in points if p.get("replaced")})

    def next_task(self, name: str) -> str:
        """The task that follows another in the configuration; the first follows the last."""
        tasks = list(self.tasks)
        return tasks[(tasks.index(name) + 1) % len(tasks)]

    def is_learned(self, variant: Variant) -> bool:
        """Whether a variant's coefficients are learned; never if a rule of the user writes it."""
        return variant.name not in self.external and self.known[variant.method].learned

    def variant(self, name: str) -> Variant:
        """The variant called ``name``.

        Raises:
            UserError: there is none.
        """
        for variant in self.merge.variants:
            if variant.name == name:
                return variant
        raise UserError(unknown("variant", name, [v.name for v in self.merge.variants]))

    def task(self, name: str) -> Task:
        """The task called ``name``.

        Raises:
            UserError: there is none.
        """
        if name not in self.tasks:
            raise UserError(unknown("task", name, self.tasks))
        return self.tasks[name]

    def subset(self, written: str) -> list[str]:
        """The tasks of a subset as it is written in paths, ``cola+mnli``.

        Raises:
            UserError: an unknown task, fewer than two tasks, or not in alphabetical order.
        """
        tasks = written.split("+")
        in_order = sorted({name for name in tasks if self.task(name)})
        if len(in_order) < 2:
            raise UserError(f"subset {written!r}: name two or more tasks of {', '.join(sorted(self.tasks))}")
        if tasks != in_order:
            raise UserError(f"subset {written!r}: name its tasks sorted, each once: {'+'.join(in_order)}")
        return tasks

    @field_validator("methods")
    @classmethod
    def _methods(cls, files: list[Path]) -> list[Path]:
        sources.add(files)
        return files

    @field_validator("paper")
    @classmethod
    def _paper(cls, paper: str | None) -> str | None:
        if paper is not None and paper not in sources.papers():
            raise ValueError(unknown("paper", paper, sources.papers()))
        return paper

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        check_agreement(self)
        return self
