"""A measure of several models on every task; values of an earlier run are recalled."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from remerge.config import digest
from remerge.stages._code import code
from remerge.stages._workspace import Workspace


def on_every_task(
    space: Workspace,
    what: str,
    kind: Any,
    models: Sequence[str],
    split: str,
    compute: Callable[[nn.Module, str], Any],
    *more: Path,
    joint: bool = False,
    settings: Sequence[Any] = (),
) -> dict[str, dict[str, Any]]:
    """``compute`` for every model on every task; values of an earlier run are recalled.

    Args:
        space: the benchmark.
        what: the name of the stage that computes.
        kind: the type of a value.
        models: the models to measure.
        split: the split to measure on.
        compute: the measure.
        more: the files that it depends on, besides those that score a model.
        joint: whether it depends on the labels of all tasks.
        settings: whatever else it depends on.
    """
    config = space.config

    def measured(load: Callable[[], nn.Module], task: str) -> Any:
        return compute(load(), task)

    base, prints = space.record("base").content, space.contents(*models, *config.tasks)
    inputs = {task: space.split(task, split).digest for task in config.tasks}
    journals = {model: space.journal(kind, what, model) for model in models}
    everything: dict[str, dict[str, Any]] = {}
    for model in tqdm(models, desc=what):
        load = cache(partial(space.load, model, list(config.tasks)))
        found = {}
        for task in config.tasks:
            # A task is read through its own expert's head, and compared with that expert.
            follows: list[Any] = [base, prints[model], prints[task], inputs[task]]
            follows += [config.evaluation.batch_size, inputs if joint else {}, settings]
            key = digest(follows, space.precision, code(config, *more))
            found[task] = journals[model].recall(key, partial(measured, load, task))
        everything[model] = found
    return everything
