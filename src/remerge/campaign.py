"""Merges: every subset of one size by one variant, in one process that loads base and experts once."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from remerge import learn
from remerge.config import Config, Variant, digest
from remerge.deltas import Deltas, State, Value
from remerge.errors import UserError
from remerge.evaluate import Split, score
from remerge.files import read_json, write_json, write_text
from remerge.learn import Fit, Tau
from remerge.methods import Method, find, prepare
from remerge.models import state_of
from remerge.references import Reference
from remerge.sources import sources_of, statistics_of
from remerge.workspace import Workspace


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
        kind = statistics_of(method.name)
        if kind:
            given = {"statistics": {task: self.space.statistics(task, kind) for task in subset}}
        self.restore(weights)
        for name, delta in method.function(weights.base, weights, **settings, **given):
            self.parameters[name].copy_(delta.add_(self.base[name]))

    def task_vectors(self, settings: Mapping[str, Any], weights: Deltas) -> dict[str, Tau]:
        """What coefficients are learned over, held in memory: the deltas, or what a method made of them."""
        prepared = prepare(settings.get("over", "none"), weights.base, weights)
        dtype = getattr(torch, self.config.merge.delta_dtype)
        return {name: prepared.factors(name) or prepared[name].to(dtype) for name in prepared}

    def fit(self, method: Method, settings: Mapping[str, Any], choice: Choice, subset: Sequence[str]) -> Fit:
        """Learn a merge's coefficients and leave the merge in the module."""
        learning, weights = self.config.learning, self.deltas(subset)
        level = settings["level"]
        inputs = getattr(learning.inputs, level)
        references = [self.reference(task).first(inputs) for task in subset]
        if "references" not in method.needs:
            references = [reference.first_tokens for reference in references]
        self.restore(weights)
        return learn.fit(
            self.space.family,
            self.model,
            weights.base,
            self.task_vectors(settings, weights),
            references,
            partial(method.function, **settings),
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


def run_campaign(config: Config, variant: str, size: int) -> None:
    """Merge and score every subset of one size by one variant, and write the records.

    Merges that an earlier run finished, from the same inputs, are taken from the journal.
    """
    chosen, bench = config.variant(variant), Bench(config)
    journal = bench.space.journal("merges", variant, str(size))
    lines = []
    subsets = list(combinations(sorted(config.tasks), size))
    for subset in tqdm(subsets, desc=f"{variant}, {size} tasks", mininterval=1):
        key = _key(bench, chosen, subset)
        lines.append(journal.recall(key, partial(_merge_and_score, bench, chosen, subset)))
    records = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(config.folder / "merges" / variant / f"{size}.jsonl", records)


def run_selection(config: Config, variant: str) -> None:
    """Choose a learned method's learning rate and initial coefficient on validation scores."""
    chosen, bench = config.variant(variant), Bench(config)
    method = find(chosen.method)
    settings = method.settings(chosen.params)
    select, subsets = config.learning.select, config.initial_subsets()
    journal = bench.space.journal("selection", variant)
    alone, average = {}, find("average")
    for task in sorted({task for subset in subsets for task in subset}):
        bench.merge(average, average.settings({}), [task])
        alone[task] = bench.scores([task], "validation")[task]["value"]
        if alone[task] <= 0:
            raise UserError(
                f"tasks.{task}: its expert scores 0 on its own validation split: train it further"
            )

    def validate(choice: Choice, subset: tuple[str, ...]) -> float:
        bench.fit(method, settings, choice, subset)
        scores = bench.scores(subset, "validation")
        kept: list[float] = [scores[task]["value"] / alone[task] for task in subset]
        return 100 * sum(kept) / len(subset)

    choices = [Choice(lr, initial) for lr in select.learning_rate for initial in select.initial]
    grid = []
    with tqdm(total=len(choices) * len(subsets), desc=f"select {variant}", mininterval=1) as bar:
        for choice in choices:
            found = {}
            for subset in subsets:
                key = digest(_key(bench, chosen, subset, choice))
                found["+".join(subset)] = journal.recall(key, partial(validate, choice, subset))
                bar.update()
            mean = sum(found.values()) / len(found)
            grid.append({**vars(choice), "validation": found, "mean": mean})
    best = max(grid, key=lambda point: point["mean"])
    write_json(
        config.folder / "selection" / f"{variant}.json",
        {
            "benchmark": config.benchmark,
            "variant": variant,
            "method": method.name,
            "params": settings,
            "subsets": ["+".join(subset) for subset in subsets],
            "grid": grid,
            "chosen": {key: best[key] for key in ("learning_rate", "initial")},
        },
    )


def _selected(config: Config, variant: str) -> Choice:
    return Choice(**read_json(config.folder / "selection" / f"{variant}.json")["chosen"])


def _merge_and_score(bench: Bench, variant: Variant, subset: tuple[str, ...]) -> dict[str, Any]:
    """One merge's record (the contract of results/README.md)."""
    config, method = bench.config, find(variant.method)
    settings = method.settings(variant.params)
    params, coefficients, trace, fitting = dict(settings), {}, [], 0.0
    bench.deltas(subset)
    started = time.perf_counter()
    if method.learned:
        choice = _selected(config, variant.name)
        found = bench.fit(method, settings, choice, subset)
        coefficients, trace, fitting = found.by_name(subset), found.trace, found.seconds
        params |= {
            "learning_rate": choice.learning_rate,
            "initial": choice.start(len(subset)),
            "epochs": epochs_of(config, method),
            "inputs": getattr(config.learning.inputs, settings["level"]),
        }
    else:
        bench.merge(method, settings, subset)
    merging = time.perf_counter() - started - fitting
    started = time.perf_counter()
    scores = bench.scores(subset, "test")
    experts = {task: bench.space.expert_score(task) for task in subset}
    normalised = {task: scores[task]["value"] / experts[task]["value"] for task in subset}
    restricted = [
        scores[task]["restricted"] / experts[task]["restricted"]
        for task in subset
        if scores[task]["restricted"] is not None and experts[task]["restricted"]
    ]
    return {
        "benchmark": config.benchmark,
        "variant": variant.name,
        "method": method.name,
        "params": params,
        "tasks": list(subset),
        "size": len(subset),
        "seed": config.seed,
        "scores": scores,
        "normalised": normalised,
        "anp": 100 * sum(normalised.values()) / len(subset),
        "anp_restricted": 100 * sum(restricted) / len(subset) if len(restricted) == len(subset) else None,
        "coefficients": coefficients,
        "trace": trace,
        "seconds": {"merge": merging, "fit": fitting, "evaluate": time.perf_counter() - started},
    }


def _key(bench: Bench, variant: Variant, subset: Sequence[str], choice: Choice | None = None) -> str:
    """Everything a merge's scores follow from."""
    config, method = bench.config, find(variant.method)
    records = [bench.space.record(model)["fingerprint"] for model in ("base", *subset)]
    tests = [bench.split(task, "test").digest for task in subset]
    parts: list[Any] = [records, tests, method.name, method.settings(variant.params), str(bench.space.dtype)]
    if "statistics" in method.needs:
        parts += [
            [bench.split(task, "train").digest for task in subset],
            config.statistics.inputs,
            config.seed,
        ]
    if method.learned:
        inputs = [bench.split(task, "validation").digest for task in subset]
        chosen = choice or _selected(config, variant.name)
        learning = config.learning.model_dump(exclude={"select"})
        parts += [inputs, vars(chosen), learning, config.merge.delta_dtype, config.seed]
    return digest(parts, [file.read_text() for file in sources_of(variant.method, variant.params)])
