"""Merges: a group of a plan by one variant."""

import json
import time
from functools import partial
from math import isnan
from typing import Any

from tqdm import tqdm

from remerge import records
from remerge.config import Config, Variant, digest
from remerge.contents import of_model
from remerge.errors import Diverged, UserError
from remerge.files import write_text
from remerge.journal import Journal
from remerge.learn import Fit, evenly
from remerge.methods import find
from remerge.plans import Case
from remerge.records import Course, Merge, Score, Seconds
from remerge.stages._bench import Bench, used_settings
from remerge.stages._keys import key_of_external, key_of_merge


def run(config: Config, variant: str, group: str) -> None:
    """Make and score one variant's merges of a group, such as those of one size, and write the records.

    Merges that an earlier run finished, from the same inputs, are taken from the journal.
    """
    chosen = config.variant(variant)
    groups = config.groups(chosen)
    if group not in groups:
        raise UserError(f"variant {variant} makes no merges {group!r}, known: {', '.join(groups)}")
    make(Bench(config), chosen, group)


def make(bench: Bench, variant: Variant, group: str) -> None:
    """Merge and score a group of merges by a variant that makes it, and write the records."""
    journal = _journal(bench, variant, group)
    lines = [merge.sealed() for merge in _kept(bench, variant, group, journal)]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(Merge.place(bench.config.folder, variant=variant.name, group=group), text)
    journal.settle()


def keep(bench: Bench, variant: Variant, group: str, part: slice) -> None:
    """Merge and score a part of a group's merges; they are kept only in the journal."""
    _kept(bench, variant, group, _journal(bench, variant, group), part)


def made(bench: Bench, variant: Variant, group: str, part: slice = slice(None)) -> list[Merge]:
    """The records of a part of a group's merges; those of an earlier run come from the journal."""
    return _kept(bench, variant, group, _journal(bench, variant, group), part)


def _journal(bench: Bench, variant: Variant, group: str) -> Journal:
    return bench.space.journal(Merge, "merges", variant.name, group)


def _kept(
    bench: Bench, variant: Variant, group: str, journal: Journal, part: slice = slice(None)
) -> list[Merge]:
    """The records of a part of a group's merges."""
    config, plan = bench.config, bench.config.groups(variant)[group]
    own = _External(bench, variant) if variant.name in config.external else _Own(bench, variant, plan)
    lines = []
    for case in tqdm(config.cases(plan)[group][part], desc=f"{variant.name}, {group}", mininterval=1):
        for seed in range(config.seed, config.seed + variant.seeds):
            lines.append(journal.recall(own.key(case, seed), partial(own.record, case, seed)))
    return [Merge.model_validate(line) for line in lines]


class _Own:
    """Merges by one of our methods, with the chosen values of tuned parameters."""

    def __init__(self, bench: Bench, variant: Variant, plan: str) -> None:
        self.bench, self.variant, self.method = bench, variant, find(variant.method)
        self.plan = plan
        self.settings = self.method.settings(bench.space.params(variant, plan))

    def seeded(self, seed: int) -> dict[str, Any]:
        """The settings for one of several seeds, which count from a random method's own seed."""
        more = {"seed": self.settings["seed"] + seed - self.bench.config.seed} if self.random else {}
        return {**self.settings, **more}

    @property
    def random(self) -> bool:
        """Whether the method is random."""
        return "seed" in self.method.parameters

    def key(self, case: Case, seed: int) -> str:
        """Everything that the record depends on."""
        settings = self.seeded(seed)
        return key_of_merge(self.bench, self.variant, self.method, settings, case, self.plan, "test", seed)

    def record(self, case: Case, seed: int) -> dict[str, Any]:
        """Merge and score."""
        settings = self.seeded(seed)
        self.bench.load(self.method, settings, case)
        try:
            merge = self.bench.make(self.method, settings, case, seed)
        except Diverged as error:
            raise UserError(f"{self.variant.name}, merge of {case.name}: {error}") from None
        fit = merge.fit
        params = used_settings(self.method, settings, len(case.tasks))
        if self.method.learned:
            # Fewer than asked for, where a validation split or the stored references are smaller.
            how = self.method.learning(settings)
            params["inputs"] = min(len(self.bench.inputs(task, how).examples) for task in case.tasks)
        made = {
            "params": params,
            "seed": settings["seed"] if self.random else seed,
            "coefficients": fit.by_name(case.tasks) if fit else {},
            "trace": fit.trace if fit else [],
            "memory": merge.memory,
        }
        if fit:
            made["course"] = self.course(fit, case)
        seconds = {"merge": merge.seconds, "fit": fit.seconds if fit else 0.0}
        record = _judged(self.bench, self.variant, case, made, seconds)
        if record.get("course", {}).get("scored"):
            record["course"]["anp"].append(record["anp"])
        return record

    def course(self, fit: Fit, case: Case) -> Course:
        """The course of the coefficients; for a pair, if the configuration asks for it, with ANPs along it.

        The last is left out, for it is the merge's own: afterwards the module is the merge again.
        """
        steps, scored = list(fit.course), []
        if self.bench.config.evaluation.watch and len(case.tasks) == 2:
            scored = [steps[k] for k in evenly(len(steps) - 1, self.bench.config.evaluation.watch)]
        found = []
        if scored:
            blend = self.bench.blend(self.method.learning(self.settings).over, case.tasks)
        for step in scored:
            blend.write(fit.course[step])
            if step == steps[-1]:
                break
            scores = {t: Score.model_validate(s) for t, s in self.bench.scores(case.tasks, "test").items()}
            own = {task: self.bench.space.expert_score(task) for task in case.tasks}
            found.append(records.anp(records.normalised(scores, own)))
        coefficients = fit.course_by_name(case.tasks)
        return Course(steps=steps, coefficients=coefficients, scored=scored, anp=found)


class _External:
    """Merges that a user's own rule wrote as checkpoint folders."""

    def __init__(self, bench: Bench, variant: Variant) -> None:
        self.bench, self.variant = bench, variant
        self.folder = bench.space.folder / "external" / variant.name

    def key(self, case: Case, seed: int) -> str:
        """Everything that the record depends on."""
        return key_of_external(self.bench, digest(of_model(self.folder / case.name)), case)

    def record(self, case: Case, seed: int) -> dict[str, Any]:
        """Load and score."""
        started = time.perf_counter()
        self.bench.put(self.folder / case.name)
        # Another tool made it, so its memory is unknown.
        made = {"params": {}, "seed": seed, "coefficients": {}, "trace": []}
        return _judged(
            self.bench, self.variant, case, made, {"merge": time.perf_counter() - started, "fit": 0.0}
        )


def _judged(
    bench: Bench, variant: Variant, case: Case, made: dict[str, Any], seconds: dict[str, float]
) -> dict[str, Any]:
    """The record of the merge in the module."""
    started = time.perf_counter()
    found = {t: Score.model_validate(s) for t, s in bench.scores(case.judged, "test", case.tasks).items()}
    scores = {task: score for task, score in found.items() if task in case.signs}
    own = {task: bench.space.expert_score(task) for task in scores}
    shares = records.normalised(scores, own)
    restricted = records.anp(records.normalised_restricted(scores, own))
    record = Merge(
        benchmark=bench.config.benchmark,
        variant=variant.name,
        method=variant.method,
        case=case.name,
        signs=dict(case.signs),
        tasks=sorted(case.tasks),
        size=len(case.tasks),
        **made,
        scores=scores,
        others={task: score for task, score in found.items() if task not in case.signs},
        normalised=shares,
        anp=records.anp(shares) if scores else None,
        anp_restricted=None if isnan(restricted) else restricted,
        seconds=Seconds(**seconds, evaluate=time.perf_counter() - started),
    )
    return record.model_dump(mode="json", exclude_unset=True)
