"""Journal keys: everything that a value depends on, including the code that computes it."""

from collections.abc import Mapping, Sequence
from typing import Any

from remerge import dependence
from remerge.config import Variant, digest
from remerge.methods import Method
from remerge.plans import Case
from remerge.stages._bench import Bench, used_settings
from remerge.stages._code import code


def key_of_merge(
    bench: Bench,
    variant: Variant,
    method: Method,
    settings: Mapping[str, Any],
    case: Case,
    plan: str,
    split: str,
    seed: int,
) -> str:
    """Everything that the scores of a plan's merge on a split depend on."""
    config = bench.config
    # A point of a grid may be another's for this number of experts: 1/T is 0.5 for a pair.
    used = used_settings(method, settings, len(case.tasks))
    parts: list[Any] = [
        _named(bench, case),
        bench.space.contents("base", *case.tasks, *case.judged),
        _inputs(bench, case.judged, split),
        [method.name, used, bench.space.precision, config.evaluation.batch_size],
    ]
    if method.needs.statistics:
        parts += [_inputs(bench, case.tasks, "train"), config.statistics.inputs, config.seed]
    if method.learned:
        learning, dtype = config.learning.model_dump(), config.merge.delta_dtype
        parts += [_inputs(bench, case.tasks, "validation"), learning, dtype, seed]
        if settings["replaced"]:
            others = [config.next_task(task) for task in case.tasks]
            parts += [_inputs(bench, others, "validation"), config.seed]
        parts += [config.evaluation.watch] if split == "test" else []
    made = dependence.sources_of(variant.method, settings)
    return digest(parts, code(config, *made, *dependence.merging(plan)))


def key_of_external(bench: Bench, print_of: str, case: Case) -> str:
    """Everything that the scores of an external merge depend on."""
    config = bench.config
    parts = [
        _named(bench, case),
        print_of,
        bench.space.contents("base", *case.judged),
        _inputs(bench, case.judged, "test"),
        [bench.space.precision, config.evaluation.batch_size],
    ]
    return digest(parts, code(config, *dependence.merging("subsets")))


def _named(bench: Bench, case: Case) -> list[Any]:
    """A record's own words, and the order in which experts are merged."""
    return [bench.config.benchmark, case.name, list(case.signs.items())]


def _inputs(bench: Bench, tasks: Sequence[str], split: str) -> list[str]:
    return [bench.space.split(task, split).digest for task in tasks]
