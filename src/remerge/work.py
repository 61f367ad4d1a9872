"""The work of jobs, from the configuration alone: the units that each repeats, and how often."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from remerge import exhibits
from remerge.amounts import ALIGNED, ANSWERS_AT_ONCE, OPTION, POINTS
from remerge.batches import Batch, batches
from remerge.config import SPLITS, Config, Task, Variant
from remerge.plans import Case
from remerge.training import existing, others_of, settings_of, tasks_of
from remerge.units import ANSWER, LOAD, Extent, Unit, Work
from remerge.variants import digest, inputs_of, start_of


class Jobs:
    """The work of each job of one benchmark.

    Args:
        config: the benchmark.
        extents: the sizes of the tasks of which they are known; of others, the largest that the
            configuration allows.
    """

    def __init__(self, config: Config, extents: Mapping[str, Extent] = MappingProxyType({})) -> None:
        self.config, self.tasks = config, list(config.tasks)
        self.learned = {v.name for v in config.merge.variants if config.is_learned(v)}
        self.extents = {name: self._largest(task) for name, task in config.tasks.items()} | {**extents}

    def rows(self) -> dict[str, list[Work]]:
        """Every job of a run, by its stage or the batch of its merges, in the order of a run."""
        read = {stage for exhibit in exhibits.of(self.config).values() for stage in exhibit.reads}
        stages = ["base", "data", *(["lengths"] if self.config.base.reads == "text" else []), "experts"]
        stages += ["references"] if self.learned or {"references", "divergences"} & read else []
        stages += ["statistics", "scores", *(n for n in ("divergences", "weights", "alignment") if n in read)]
        merged = {f"merges: {name}": self.merges(batch) for name, batch in batches(self.config).items()}
        rows = {name: self.stage(name) for name in stages} | merged
        return {name: works for name, works in rows.items() if works}

    def _largest(self, task: Task) -> Extent:
        """The size that the configuration allows a task."""
        answer = (OPTION if task.chooses else ANSWER) if self.config.base.speaks else 1
        n = task.sizes
        return Extent(n.train, n.validation, n.test, max(answer, task.answer_tokens or 0))

    @property
    def shown(self) -> int:
        """The number of tables, figures and pages that show the results."""
        return len(exhibits.of(self.config)) + 1

    def stage(self, name: str) -> list[Work]:
        """Each job of a stage that does not merge; for exports, each possible one."""
        config, tasks = self.config, self.tasks
        everywhere = Work({LOAD: 1 + len(tasks)})
        if name == "base":
            made = config.base.miniature
            step = Unit("pretrain", "base", inputs=made.batch_size, backward=True)
            return [Work({LOAD: 1, step: made.steps if config.base.source == "miniature" else 0})]
        if name == "data":
            return [self._read([task], *SPLITS) for task in tasks]
        if name == "lengths":
            return [self._read(tasks, *SPLITS)]
        if name == "experts":
            return [self.expert(task) for task in config.models[1:]]
        if name == "references":
            return [self._reference(task) for task in tasks]
        if name == "statistics":
            methods = config.known
            used = {methods[v.method].statistics for v in config.merge.variants if v.method in methods}
            return [self._statistics(task, kind) for kind in sorted(filter(None, used)) for task in tasks]
        if name == "scores":
            models = len(config.models)
            scored = self._scored(Counter(dict.fromkeys(tasks, models)), "test")
            return [Work({LOAD: models}) + scored + self._read(tasks, "test")]
        if name == "divergences":
            compared = {self._pass(task, self._referred(task)): len(tasks) for task in tasks}
            return [Work({LOAD: len(tasks), **compared}) + self._read(tasks, "validation")]
        if name == "alignment":
            inputs = len(tasks) * min(ALIGNED, *(self.extents[task].validation for task in tasks))
            # It uses the joint spaces of KnOTS.
            aligned = {Unit("scatters", tasks[0], inputs=1, passes=1): inputs}
            joined = {Unit("merge", "knots", experts=len(tasks)): 1}
            return [everywhere + Work({**aligned, **joined}) + self._read(tasks, "validation")]
        if name == "weights":
            # Signs are compared in the spaces in which DRM merges.
            return [everywhere + Work({Unit("merge", f"drm_{side}", experts=len(tasks)): 1 for side in "hv"})]
        if name == "exports":
            largest = [cases[-1:] for cases in config.cases("subsets").values()][-1]
            return [everywhere + self._merged(variant, largest) for variant in config.merge.variants]
        return [Work()]

    def expert(self, task: str) -> Work:
        """The work of an expert, including `multitask`; an existing one is read, not trained."""
        config, recipe = self.config, settings_of(self.config, task)
        if existing(config, task) is not None:
            return Work({LOAD: 1})
        of, others = tasks_of(config, task), others_of(config, task)
        parts = recipe.batch_size // recipe.at_once
        # The penalty on the other tasks' inputs takes a pass of its own.
        taken = recipe.batch_size + parts * len(others) * recipe.penalty_inputs
        step = Unit("train", inputs=taken, passes=2 * parts if others else parts, backward=True)
        work = Work({LOAD: 2, step: recipe.steps})
        if recipe.evaluations:
            inputs = sum(self.extents[name].validation for name in of)
            watched = recipe.steps // max(1, recipe.steps // recipe.evaluations)
            work[Unit("score", of[0], inputs=inputs, passes=math.ceil(inputs / recipe.at_once))] += watched
        return work + self._read(of, "train", "validation")

    def batch(self, batch: Batch) -> Work:
        """The work of the choices and merges of one process."""
        every = slice(None)
        return self._share([(*c, every) for c in batch.choices], [(*m, every) for m in batch.merges])

    def merges(self, batch: Batch) -> list[Work]:
        """The work of the processes that make a batch, and of the one that collects their results."""
        shares = batch.shares(self.config)
        if not shares:
            return [self.batch(batch)]
        return [*(self._share(share.choices, share.merges) for share in shares), Work()]

    def _share(
        self,
        choices: Sequence[tuple[str, Variant, slice]],
        merges: Sequence[tuple[Variant, str, slice]],
    ) -> Work:
        """The work of one process: some of the trials of choices, and some of the merges of groups."""
        config, work = self.config, Work({LOAD: 1})
        # The merges on which each plan's choice of a variant was made in this process.
        tried = dict[tuple[str, str], set[str]]()
        for plan, variant, part in choices:
            work += self._chosen(plan, variant, part)
            tried[plan, variant.name] = {case.name for case in config.tuning(variant, plan)}
        groups = {variant.name: config.groups(variant) for variant, _, _ in merges}
        for variant, group, part in merges:
            plan = groups[variant.name][group]
            known = tried.get((plan, variant.name), set())
            work += self._merged(variant, config.cases(plan)[group][part], known)
        asked = choices or any(variant.name in self.learned for variant, _, _ in merges)
        return work + self._read(
            self.tasks, *(["validation"] if asked else []), *(["test"] if merges else [])
        )

    def _chosen(self, plan: str, variant: Variant, part: slice) -> Work:
        """Some of the trials by which a variant's parameters are chosen for a plan."""
        config, points = self.config, self.config.grid(variant).sample
        searched = config.is_searched(variant)
        tried = points[:1] * config.tune.trials if searched else points
        cases = config.tuning(variant, plan)
        every = [(case, self._used(variant, point, case)) for case in cases for point in tried]
        trials = apart = every[part]
        if not searched:
            # Points that are the same for a case's number of experts are tried once.
            apart = [*{digest(case.name, used): (case, used) for case, used in trials}.values()]
        work, alike = Work(), dict[tuple[int, int], list[Case]]()
        for case, used in apart:
            alike.setdefault(self._fitting(variant, used), []).append(case)
        for fitting, some in alike.items():
            work += self._made(variant, some, fitting, "validation")
        cases = [case for case, _ in trials]
        # Merges are compared with experts on their own tasks, and the base on the controls.
        own = {task for case in cases for task in case.tasks} if plan == "subsets" else set()
        controls = {t for case in cases for t in case.judged if t not in case.tasks}
        compared = Counter([*own, *(controls if plan == "negation" else ())])
        work += self._scored(compared, "validation")
        return work + Work({Unit("merge", "average", experts=1): len(own)}) + self._experts(variant, cases)

    def _merged(self, variant: Variant, cases: Sequence[Case], tried: Collection[str] = ()) -> Work:
        """Merges of a group; if parameters are not yet chosen, the slowest are assumed.

        Coefficients of a case that was ``tried`` in the same process are not learned again.
        """
        config = self.config
        grid = (self._used(variant, point, cases[0]) for point in config.grid(variant).sample)
        fitting = max(self._fitting(variant, used) for used in grid)
        work = self._made(variant, cases, fitting, "test")
        if variant.name in self.learned and config.evaluation.watch:
            watched = Counter[str]()
            for case in cases:
                if len(case.tasks) == 2:
                    points = min(config.evaluation.watch, POINTS, self._steps(case, fitting) + 1)
                    # The last is the merge itself.
                    watched.update(dict.fromkeys(case.tasks, points - 1))
            work += self._scored(watched, "test")
        work = Work({unit: variant.seeds * count for unit, count in work.items()})
        if variant.name in self.learned:
            known = [case for case in cases if case.name in tried]
            work -= self._fits(variant, known, fitting)
        return work + self._experts(variant, cases)

    def _made(self, variant: Variant, cases: Sequence[Case], fitting: tuple[int, int], split: str) -> Work:
        """Merges by a variant, each scored on a split."""
        config = self.config
        work = self._scored(Counter(task for case in cases for task in case.judged), split)
        if variant.name in self.learned:
            return work + self._fits(variant, cases, fitting)
        if variant.name in config.external:
            return work + Work({LOAD: len(cases)})
        sizes = Counter(len(case.signs) for case in cases)
        return work + Work({Unit("merge", variant.method, experts=size): n for size, n in sizes.items()})

    def _fits(self, variant: Variant, cases: Sequence[Case], fitting: tuple[int, int]) -> Work:
        """Learning the coefficients of merges."""
        work = Work()
        for case in cases:
            count = len(case.tasks)
            inputs = count * self.config.learning.batch_size
            step = Unit("fit", variant.method, experts=count, inputs=inputs, passes=1, backward=True)
            work[step] += self._steps(case, fitting)
        return work

    def _experts(self, variant: Variant, cases: Sequence[Case]) -> Work:
        """Experts are loaded once; for each learned merge, its stack is loaded again."""
        tasks = [task for case in cases for task in case.tasks]
        return Work({LOAD: len(tasks if variant.name in self.learned else {*tasks})})

    def _used(self, variant: Variant, point: Mapping[str, Any], case: Case) -> dict[str, Any]:
        """A variant's parameters at a point of its grid, with what depends on the case written out."""
        if variant.name not in self.learned:
            return {**self.config.params(variant), **point}
        given = {**self.config.known[variant.method].defaults, **self.config.params(variant), **point}
        inputs = inputs_of(given["inputs"], given["level"])
        return {**given, "inputs": inputs, "initial": start_of(given["initial"], len(case.tasks))}

    def _fitting(self, variant: Variant, used: Mapping[str, Any]) -> tuple[int, int]:
        """The inputs of each task from which coefficients are learned, and the passes over them."""
        return (used["inputs"], used["epochs"]) if variant.name in self.learned else (0, 0)

    def _steps(self, case: Case, fitting: tuple[int, int]) -> int:
        """The number of steps of a learned merge."""
        inputs, epochs = fitting
        shortest = min(inputs, *map(self._referred, case.tasks))
        return epochs * math.ceil(shortest / self.config.learning.batch_size)

    def _reference(self, task: str) -> Work:
        """An expert's answers to its own inputs and their stand-ins, and the tokens' distributions."""
        kinds, inputs = 1 + len(self.config.stand_ins), self._referred(task)
        work = Work({LOAD: 1, self._answers(task, inputs): kinds, self._pass(task, inputs): kinds})
        return work + self._read([task], "validation")

    def _statistics(self, task: str, kind: str) -> Work:
        inputs = min(self.config.statistics.inputs, self.extents[task].train)
        taken = Work({LOAD: 1, Unit(kind, task, inputs=1, passes=1, backward=kind == "fisher"): inputs})
        return taken + self._read([task], "train")

    def _read(self, tasks: Sequence[str], *splits: str) -> Work:
        """The examples of splits, turned into inputs of models."""
        return Work(
            {
                Unit("read", task): sum(getattr(self.extents[task], split) for split in splits)
                for task in tasks
            }
        )

    def _scored(self, models: Mapping[str, int], split: str) -> Work:
        """Scoring a number of models on a split of each task; answers in free text are decoded."""
        work = Work()
        for task, count in models.items():
            asked, inputs = self.config.task(task), getattr(self.extents[task], split)
            # A choice takes a pass for each answer.
            inputs *= len(asked.answers) if asked.chooses and self.config.base.speaks else 1
            work[(self._pass if asked.classifies else self._answers)(task, inputs)] += count
        return work

    def _pass(self, task: str, inputs: int) -> Unit:
        passes = math.ceil(inputs / self.config.evaluation.batch_size)
        return Unit("score", task, inputs=inputs, passes=passes)

    def _answers(self, task: str, inputs: int) -> Unit:
        """Answering inputs: when decoding, each pass makes one token of every answer."""
        passes = self.extents[task].answer * math.ceil(inputs / ANSWERS_AT_ONCE)
        return Unit("answer", task, inputs=inputs, passes=passes)

    def _referred(self, task: str) -> int:
        """The number of a task's inputs for which its expert's answers are kept."""
        return min(self.config.learning.references, self.extents[task].validation)
