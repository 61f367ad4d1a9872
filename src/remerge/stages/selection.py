"""The parameters that a configuration leaves open, chosen on validation scores."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from statistics import fmean
from typing import Any, TypeVar

from pydantic import FiniteFloat
from tqdm import tqdm

from remerge.config import Config, Variant
from remerge.errors import Diverged, UserError
from remerge.methods import Method, find
from remerge.plans import Case
from remerge.records import Point, Selection
from remerge.stages._bench import Bench
from remerge.stages._keys import key_of_merge

Trial = TypeVar("Trial")


def run(config: Config, variant: str, plan: str) -> None:
    """Choose a variant's tuned parameters by the merit of a plan, and keep the scores of the grid.

    Among points of equal merit, the first in the grid is chosen.
    """
    chosen = config.variant(variant)
    if plan not in config.chosen_for(chosen):
        raise UserError(f"variant {variant}: plan {plan!r} tunes nothing in it: give another variant or plan")
    choose(Bench(config), chosen, plan)


def choose(bench: Bench, variant: Variant, plan: str) -> None:
    """Choose the parameters of a variant that is tuned for a plan, and write the record."""
    trials = _Trials(bench, variant, plan)
    trials.chosen().write(bench.config.folder, plan=plan, variant=variant.name)
    trials.journal.settle()


def keep(bench: Bench, variant: Variant, plan: str, part: slice) -> None:
    """Make a part of the trials of a choice; their merits are kept only in the journal."""
    _Trials(bench, variant, plan).merits(part)


def made(bench: Bench, variant: Variant, plan: str) -> Selection:
    """The record of a choice; merits of an earlier run come from the journal."""
    return _Trials(bench, variant, plan).chosen()


class _Trials:
    """Every point of a variant's grid on every merge that tunes it; merits are kept in a journal."""

    def __init__(self, bench: Bench, variant: Variant, plan: str) -> None:
        config = bench.config
        self.bench, self.variant, self.method = bench, variant, find(variant.method)
        self.plan, self.name = config.planned[plan], plan
        self.cases = config.tuning(variant, plan)
        self.grid = config.grid(variant)
        self.unmerged = bench.unmerged("validation")
        self.journal = bench.space.journal(FiniteFloat | None, "selection", plan, variant.name)
        self._writer: _Writer | None = None

    def merits(self, part: slice = slice(None)) -> dict[tuple[str, int], float | None]:
        """The merit of each trial of a part, by the merge's name and the point's index; None if it diverges.

        A search has one part, since each trial depends on the results before it.
        """
        if self.bench.config.is_searched(self.variant):
            return self._searched()
        # Points that differ only in scale follow one another, since they are merged once.
        every = range(self.grid.size)
        rest = [{key: value for key, value in self.grid.point(k).items() if key != "scale"} for k in every]
        order = sorted(every, key=lambda k: rest.index(rest[k]))
        trials = [(case, k) for case in self.cases for k in order][part]
        return {(case.name, k): self._tried(case, k) for case, k in self._bar(trials)}

    def _searched(self) -> dict[tuple[str, int], float | None]:
        """The merits of the points that a search tries, on all merges."""
        from remerge.search import Search  # takes a second to import, and few need it

        config = self.bench.config
        search = Search(config.tune.search, self.grid.sizes, config.seed)
        found = dict[tuple[str, int], float | None]()
        for _ in self._bar(range(config.tune.trials)):
            trial, k = search.ask()
            merits = [self._tried(case, k) for case in self.cases]
            found |= {(case.name, k): merit for case, merit in zip(self.cases, merits, strict=True)}
            told = [merit for merit in merits if merit is not None]
            search.tell(trial, fmean(told) if len(told) == len(merits) else None)
        return found

    def _bar(self, trials: Collection[Trial]) -> "tqdm[Trial]":
        return tqdm(trials, desc=f"select {self.variant.name}", mininterval=1)

    def _tried(self, case: Case, k: int) -> float | None:
        """The merit of a point on a merge; one of an earlier run comes from the journal."""
        setting, seed = self._settings(self.grid.point(k)), self.bench.config.seed
        made = self.bench, self.variant, self.method, setting, case
        key = key_of_merge(*made, self.name, "validation", seed)
        value: float | None = self.journal.recall(key, partial(self._merit, setting, case))
        return value

    def _settings(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters at a point."""
        return self.method.settings({**self.bench.config.params(self.variant), **point})

    def _merit(self, setting: Mapping[str, Any], case: Case) -> float | None:
        if self._writer is None or self._writer.case != case:
            self._writer = _Writer(self.bench, self.method, case)
        try:
            self._writer(setting)
        except Diverged:
            return None
        scores = self.bench.scores(case.judged, "validation")
        values = {task: score["value"] for task, score in scores.items()}
        return self.plan.merit(case, values, self.unmerged)

    def chosen(self) -> Selection:
        """The record: the whole grid, and the best of its points.

        Raises:
            UserError: a merge diverges at every point.
        """
        grid, diverged, merits = [], [], self.merits()
        for k in sorted({k for _, k in merits}):
            point, tried = self.grid.point(k), {case.name: merits[case.name, k] for case in self.cases}
            told = {name: merit for name, merit in tried.items() if merit is not None}
            if len(told) == len(tried):
                grid.append(Point(params=point, validation=told, mean=fmean(told.values())))
            else:
                diverged.append(point)
        if not grid:
            why = "a merge diverges at every point of the grid: try smaller values"
            raise UserError(f"{self.variant.name}: {why}")
        best = max(grid, key=lambda point: point.mean)
        return Selection(
            benchmark=self.bench.config.benchmark,
            variant=self.variant.name,
            method=self.method.name,
            plan=self.name,
            params=self._settings(best.params),
            subsets=[case.name for case in self.cases],
            grid=grid,
            chosen=best.params,
            diverged=diverged,
        )


class _Writer:
    """Writes a merge with one setting after another; settings that differ only in scale are merged once."""

    def __init__(self, bench: Bench, method: Method, case: Case) -> None:
        self.bench, self.method, self.case = bench, method, case
        self._held: tuple[Mapping[str, Any], Callable[[float], None]] | None = None

    def __call__(self, settings: Mapping[str, Any]) -> None:
        scale = settings.get("scale")
        if not self.method.rescales or not isinstance(scale, int | float):
            self.bench.remember(self.method, settings, self.case, self.bench.config.seed)
            return
        rest = {key: value for key, value in settings.items() if key != "scale"}
        if self._held is None or self._held[0] != rest:
            self._held = None  # freed before the next is made
            self._held = rest, self.bench.rescaled(self.method, settings, self.case.signs)
        self._held[1](float(scale))
