"""How far every expert is from each task's own, on that task's validation inputs."""

from math import isfinite
from pathlib import Path
from typing import Any

from torch import nn

from remerge.config import Config
from remerge.errors import UserError
from remerge.measures import references
from remerge.records import Divergence, Divergences
from remerge.stages._every_task import on_every_task
from remerge.stages._workspace import Workspace


def run(config: Config) -> None:
    """Measure the divergence of every expert from each task's own expert, on its validation inputs."""
    for model, record in made(Workspace(config), list(config.tasks)).items():
        record.write(config.folder, model=model)


def made(space: Workspace, models: list[str]) -> dict[str, Divergences]:
    """The record of each expert; divergences of an earlier run come from the journal."""
    config, code = space.config, Path(references.__file__)

    def compute(model: nn.Module, task: str) -> Any:
        found = references.divergences(
            space.family, model, space.reference(task), config.evaluation.batch_size
        )
        if not isfinite(found["kl"]):
            raise UserError(
                f"divergences: the KL of an expert from that of {task} is {found['kl']}, as one never says a "
                "word that the other may: give experts that mask the same words"
            )
        return found

    # A reference has the first of a task's validation inputs.
    settings = [config.learning.references]
    found = on_every_task(
        space, "divergences", Divergence, models, "validation", compute, code, settings=settings
    )
    records = [{"benchmark": config.benchmark, "model": m, "divergences": found[m]} for m in found]
    return {record.model: record for record in map(Divergences.model_validate, records)}
