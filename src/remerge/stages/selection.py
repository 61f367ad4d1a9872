"""The parameters that a configuration leaves open, chosen on validation scores."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import FiniteFloat
from tqdm import tqdm

from remerge.config import Config, Variant
from remerge.errors import Diverged, UserError
from remerge.methods import Method, find
from remerge.plans import Case
from remerge.records import Point, Selection
from remerge.stages._bench import Bench
from remerge.stages._keys import key_of_merge


def run(config: Config, variant: str, plan: str) -> None:
    """Choose a variant's tuned parameters by a plan's merit, and keep the whole grid.

    Of points of equal merit the first of the grid is chosen.
    """
    chosen = config.variant(variant)
    if plan not in config.chosen_for(chosen):
        raise UserError(f"variant {variant}: nothing is tuned in it by plan {plan!r}")
    choose(Bench(config), chosen, plan)


def choose(bench: Bench, variant: Variant, plan: str) -> None:
    """Choose the parameters of a variant that is tuned for a plan, and write the record."""
    made(bench, variant, plan).write(bench.config.folder, plan=plan, variant=variant.name)


def made(bench: Bench, variant: Variant, plan: str) -> Selection:
    """The record of a choice, merits of an earlier run from the journal."""
    config, method = bench.config, find(variant.method)
    asked = config.planned[plan]
    cases = asked.tuning(config.cases(plan))
    unmerged = bench.unmerged("validation")
    journal = bench.space.journal(FiniteFloat | None, "selection", plan, variant.name)
    points = config.grid(variant)
    settings = [method.settings({**config.params(variant), **point}) for point in points]
    found: list[dict[str, float | None]] = [{} for _ in points]
    # Points that differ in scale alone follow one another, for they are merged once.
    rest = [{key: value for key, value in setting.items() if key != "scale"} for setting in settings]
    order = sorted(range(len(points)), key=lambda k: rest.index(rest[k]))

    def merit(
        write: Callable[[Mapping[str, Any]], None], setting: Mapping[str, Any], case: Case
    ) -> float | None:
        try:
            write(setting)
        except Diverged:
            return None
        scores = bench.scores(case.judged, "validation")
        return asked.merit(case, {task: score["value"] for task, score in scores.items()}, unmerged)

    with tqdm(total=len(points) * len(cases), desc=f"select {variant.name}", mininterval=1) as bar:
        for case in cases:
            write = _Writer(bench, method, case)
            for k in order:
                key = key_of_merge(bench, variant, method, settings[k], case, "validation", config.seed)
                found[k][case.name] = journal.recall(key, partial(merit, write, settings[k], case))
                bar.update()
    grid, diverged = [], []
    for point, merits in zip(points, found, strict=True):
        told = {name: merit for name, merit in merits.items() if merit is not None}
        if len(told) == len(merits):
            grid.append(Point(params=point, validation=told, mean=sum(told.values()) / len(told)))
        else:
            diverged.append(point)
    if not grid:
        raise UserError(f"{variant.name}: a merge diverges at every point of the grid: try smaller values")
    best = max(grid, key=lambda point: point.mean)
    return Selection(
        benchmark=config.benchmark,
        variant=variant.name,
        method=method.name,
        plan=plan,
        params=settings[points.index(best.params)],
        subsets=[case.name for case in cases],
        grid=grid,
        chosen=best.params,
        diverged=diverged,
    )


class _Writer:
    """Writes a merge under one setting after the other; those that differ in scale alone are merged once."""

    def __init__(self, bench: Bench, method: Method, case: Case) -> None:
        self.bench, self.method, self.case = bench, method, case
        self._held: tuple[Mapping[str, Any], Callable[[float], None]] | None = None

    def __call__(self, settings: Mapping[str, Any]) -> None:
        scale = settings.get("scale")
        if not self.method.rescales or not isinstance(scale, int | float):
            self.bench.make(self.method, settings, self.case, self.bench.config.seed)
            return
        rest = {key: value for key, value in settings.items() if key != "scale"}
        if self._held is None or self._held[0] != rest:
            self._held = None
            self._held = rest, self.bench.rescaled(self.method, settings, self.case.signs)
        self._held[1](float(scale))
