"""A measure of several models on every task, those of an earlier run recalled."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from torch import nn
from tqdm import tqdm

from remerge.config import Config, digest
from remerge.files import write_json
from remerge.stages._workspace import Workspace


def on_every_task(
    config: Config,
    what: str,
    models: Sequence[str],
    split: str,
    compute: Callable[[Workspace, nn.Module, str], Any],
) -> None:
    """Write ``compute`` of every model on every task, those kept from an earlier run recalled."""
    space = Workspace(config)

    def measured(load: Callable[[], nn.Module], task: str) -> Any:
        return compute(space, load(), task)

    prints = {model: space.record(model)["fingerprint"] for model in models}
    inputs = {task: space.split(task, split).digest for task in config.tasks}
    for model in tqdm(models, desc=what):
        journal, load = space.journal(what, model), cache(partial(space.load, model, list(config.tasks)))
        found = {}
        for task in config.tasks:
            key = digest(prints[model], inputs[task], prints[task] if what == "divergences" else None)
            found[task] = journal.recall(key, partial(measured, load, task))
        record = {"benchmark": config.benchmark, "model": model, what: found}
        write_json(space.folder / what / f"{model}.json", record)
