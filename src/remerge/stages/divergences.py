"""How far every expert is from each task's own, on that task's validation inputs."""

from pathlib import Path
from typing import Any

from torch import nn

from remerge.config import Config
from remerge.measures import references
from remerge.records import Divergence, Divergences
from remerge.stages._every_task import on_every_task
from remerge.stages._workspace import Workspace


def run(config: Config) -> None:
    """Measure how far every expert is from each task's expert on that task's validation inputs."""

    def compute(space: Workspace, model: nn.Module, task: str) -> Any:
        return references.divergences(
            space.family, model, space.reference(task), config.evaluation.batch_size
        )

    code = Path(references.__file__)
    found = on_every_task(config, "divergences", Divergence, list(config.tasks), "validation", compute, code)
    for model, divergences in found.items():
        record = {"benchmark": config.benchmark, "model": model, "divergences": divergences}
        Divergences.model_validate(record).write(config.folder, model=model)
