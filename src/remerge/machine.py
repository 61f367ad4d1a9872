"""The seconds that units of work take on this machine, measured with the code that jobs run.

Experts are the base plus noise, references are uniform, statistics are made up: this does not change the time
they take. Only the caller's folder is written to.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import count, cycle, islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from remerge import learn
from remerge.amounts import ANSWERS_AT_ONCE
from remerge.checkpoints.models import held, state_of
from remerge.config import Config
from remerge.deltas import Deltas, LowRank, State, Value, added, without_tf32
from remerge.families import Example, by_length
from remerge.families.linearised import at_the_base
from remerge.forks import LIBRARIES
from remerge.here import Here, pretrain_base
from remerge.measures import curvature
from remerge.measures.references import Reference, kept
from remerge.measures.score import accuracy
from remerge.measures.words import WordHead, word_head
from remerge.methods import Method, find
from remerge.units import Unit, Work
from remerge.warm import suits

LEAST = 0.3
"""The least time in seconds for which a unit is repeated."""

LONG = 5.0
"""A step of this many seconds makes the time before and after it negligible."""

NOISE = 1e-3
"""The scale of the difference between experts and the base."""


def start(module: str, config: Config) -> float:
    """The seconds until a job that imports a module works; `remerge.forks` has imported the libraries."""
    before = f"import {', '.join(LIBRARIES)}\n" if suits(config) else ""
    code = f"{before}from time import time\nbegan = time()\nimport {module}\nprint(time() - began)"
    # The first process may read files from the disk, the second finds them in memory.
    asked = [sys.executable, "-c", code]
    return min(float(subprocess.run(asked, check=True, stdout=subprocess.PIPE).stdout) for _ in range(2))


class Machine:
    """The seconds that units of work take here, each measured when it is first needed.

    Args:
        space: the benchmark.
        folder: the folder for temporary files.
    """

    def __init__(self, space: Here, folder: Path) -> None:
        self.space, self.config, self.family = space, space.config, space.family
        self._folders = (folder / str(k) for k in count())
        self._known: dict[Unit, float] = {}

    def seconds(self, work: Work) -> float:
        """The seconds of some work."""
        return sum(times * self._one(unit) for unit, times in work.items() if times)

    def _one(self, unit: Unit) -> float:
        """The seconds of a unit; for inputs that go through a model together, their share of a batch."""
        together = unit.inputs if unit.kind in ("score", "answer") else 1
        key = unit._replace(inputs=0, passes=0)
        if key not in self._known:
            self._known[key] = getattr(self, f"_{unit.kind}")(unit)
        return together * self._known[key]

    @cached_property
    def model(self) -> nn.Module:
        """The module that answers."""
        return self.space.fresh(self.space.dtype)

    def _load(self, unit: Unit) -> float:
        return _once(partial(self.space.fresh, self.space.dtype))

    def _read(self, unit: Unit) -> float:
        return self.space.reading.get(unit.of, 0.0)

    def _pretrain(self, unit: Unit) -> float:
        return _step(lambda steps: pretrain_base(self.config, next(self._folders), steps))

    def _train(self, unit: Unit) -> float:
        # Imported here: the Trainer takes five seconds, and all experts may exist already.
        from remerge.finetune import finetune

        config, tasks = self.config, list(self.config.tasks)
        inputs = {task: self.space.split(task, "train").examples for task in tasks}
        others = [inputs[task] for task in tasks[1:]] if config.finetune.recipe == "tau_jp" else []
        every = [example for task in tasks for example in inputs[task]]
        drawn = Random(config.seed).sample(every, len(every))

        def train(steps: int) -> None:
            recipe = config.finetune.model_copy(update={"steps": steps, "evaluations": 1, "patience": None})
            some, kept = list(islice(cycle(drawn), steps * recipe.batch_size)), next(self._folders)
            model = self.space.fresh(torch.float32)
            finetune(self.family, model, some, some[:1], recipe, config.seed, kept, others)

        return _step(train)

    def _score(self, unit: Unit) -> float:
        at_once = self.config.evaluation.batch_size
        some = _spread(self.space.split(unit.of, "test").judged, at_once)
        return _once(partial(accuracy, self.family, self.model, some, None, at_once)) / len(some)

    def _answer(self, unit: Unit) -> float:
        asked = self.space.split(unit.of, "test")
        some = _spread(asked.examples, ANSWERS_AT_ONCE)
        return _once(partial(self.family.greedy, self.model, some, asked.longest)) / len(some)

    def _fit(self, unit: Unit) -> float:
        method, settings = self._method(unit.of)
        at_once, model = self.config.learning.batch_size, self.space.fresh(self.space.dtype)
        deltas = self._deltas(list(self._merged), unit.experts)
        tau = {name: deltas.factors(name) or deltas[name] for name in deltas}
        tasks = list(self.config.tasks)[: unit.experts]
        asked = [self.space.split(task, "validation").examples for task in tasks]
        batch = self.family.collate(asked[0][:1], self.space.device)
        with torch.no_grad():
            row = kept(self.family, self.model, batch)[:1]

        own = partial(learn.parts, state_of(model), deltas.base, tau)

        def head(t: int) -> WordHead | None:
            return word_head(held(model).head, partial(own, t)) if self.config.base.speaks else None

        def fit(steps: int) -> None:
            inputs = [list(islice(cycle(some), steps * at_once)) for some in asked]
            rows = [[row.expand(len(e.answer), -1) for e in some] for some in inputs]
            given = [Reference(*both, head(t)) for t, both in enumerate(zip(inputs, rows, strict=True))]
            learn.fit(
                self.family,
                model,
                deltas.base,
                tau,
                given if method.needs.answers else [reference.first_tokens for reference in given],
                method.objective(settings),
                level="layer",
                learning_rate=1e-4,
                initial=0.5,
                epochs=1,
                batch_size=at_once,
                seed=0,
            )

        return _step(fit)

    def _merge(self, unit: Unit) -> float:
        """Of tensors that differ only in their layer, one is merged and counted for all."""
        method, settings = self._method(unit.of)

        @without_tf32()
        def merge(deltas: Deltas) -> None:
            given = {}
            if kind := method.needs.statistics:
                given = {"statistics": dict.fromkeys(deltas.experts, _statistics(kind, deltas.base))}
            for name, delta in method.merge(deltas, settings, **given):
                added(deltas.base[name], delta)

        alike = Counter(re.sub(r"\d+", "", name) for name in self._merged)
        names = {re.sub(r"\d+", "", name): name for name in self._merged}
        once = {kind: partial(merge, self._deltas([name], unit.experts)) for kind, name in names.items()}
        return sum(times * _once(once[kind], len(names)) for kind, times in alike.items())

    def _fisher(self, unit: Unit) -> float:
        return self._single(unit, partial(curvature.fisher, logits=self.family.logits))

    def _grams(self, unit: Unit) -> float:
        logits = at_the_base(self.family).logits
        return self._single(unit, partial(getattr(curvature, unit.kind), logits=logits))

    _scatters = _grams

    def _single(self, unit: Unit, take: Callable[..., object]) -> float:
        """The seconds of one input, which goes through the model alone."""
        examples = self.space.split(unit.of, "validation").examples
        collate, device = self.family.collate, self.space.device
        return _step(lambda n: take(self.model, [collate([e], device) for e in islice(cycle(examples), n)]))

    def _method(self, name: str) -> tuple[Method, dict[str, Any]]:
        """A method and the settings of its first variant; an average if those settings name layers."""
        method, config = find(name), self.config
        if any(parameter.required for parameter in method.parameters.values()):
            method = find("average")
        variants = [variant for variant in config.merge.variants if variant.method == method.name]
        params = [{**config.params(variant), **config.grid(variant).point(0)} for variant in variants[:1]]
        return method, method.settings(params[0] if params else {})

    @cached_property
    def _merged(self) -> dict[str, Tensor]:
        """The base's tensors that experts change."""
        state, lora = state_of(self.model), self.config.finetune.lora
        ends = tuple(f"{target}.weight" for target in lora.targets) if lora else ("",)
        return {name: theta.clone() for name, theta in state.items() if name.endswith(ends)}

    def _deltas(self, names: Sequence[str], experts: int) -> Deltas:
        """Some tensors of several experts."""
        base = {name: self._merged[name] for name in names}
        near = [{name: self._near(theta) for name, theta in base.items()} for _ in range(experts)]
        return Deltas(base, {str(t): state for t, state in enumerate(near)})

    def _near(self, theta: Tensor) -> Value:
        """An expert's tensor, or an adapter's change to it."""
        if lora := self.config.finetune.lora:
            factors = [(len(theta), lora.rank), (lora.rank, theta.shape[-1])]
            B, A = (torch.randn(shape, device=theta.device) for shape in factors)
            return LowRank(B, A, NOISE)
        return theta + NOISE * torch.randn_like(theta)


def _took(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _once(do: Callable[[], object], parts: int = 1) -> float:
    """The seconds of one of several parts of a unit: the least of several runs."""
    do()  # imports and first allocations happen only once in a job
    times = [_took(do)]
    while sum(times) < LEAST / parts:
        times.append(_took(do))
    return min(times)


def _step(do: Callable[[int], object]) -> float:
    """The seconds of one step, without the time before and after the steps."""
    do(1)
    if (begun := _took(partial(do, 1))) > LONG:
        return begun
    begun, steps, longer = min(begun, _took(partial(do, 1))), 1, 0.0
    while longer < LEAST:
        steps *= 4
        longer = _took(partial(do, 1 + steps)) - begun
    return min(longer, _took(partial(do, 1 + steps)) - begun) / steps


def _spread(examples: Sequence[Example], at_once: int) -> list[Example]:
    """The examples of three batches, each of similar lengths: short, medium and long ones."""
    chunks = list(by_length(examples, at_once))
    places = sorted({len(chunks) * part // 6 for part in (1, 3, 5)})
    return [examples[i] for place in places for i in chunks[place]]


def _statistics(kind: str, base: State) -> dict[str, Tensor]:
    """Made-up numbers as an expert's statistics."""
    if kind == "fisher":
        return {name: theta.float().square() for name, theta in base.items()}
    matrices = {name: theta.float() for name, theta in base.items() if theta.ndim == 2}
    return {name: theta.T @ theta for name, theta in matrices.items()}
