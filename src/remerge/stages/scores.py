"""The score of every unmerged model on every task."""

from typing import Any

from torch import nn

from remerge.config import Config
from remerge.measures.score import score
from remerge.records import Score, Scores
from remerge.stages._every_task import on_every_task
from remerge.stages._workspace import Workspace


def run(config: Config) -> None:
    """Score base, multitask model (if any) and every expert on every task's test split."""
    for model, record in made(Workspace(config), config.models).items():
        record.write(config.folder, model=model)


def made(space: Workspace, models: list[str]) -> dict[str, Scores]:
    """The record of each model; scores of an earlier run come from the journal."""
    config = space.config
    labels = space.labels_of(list(config.tasks))

    def compute(model: nn.Module, task: str) -> Any:
        return score(space.family, model, space.split(task, "test"), config.evaluation.batch_size, labels)

    joint = config.base.fixed_heads
    found = on_every_task(space, "scores", Score, models, "test", compute, joint=joint)
    records = [{"benchmark": config.benchmark, "model": m, "scores": found[m]} for m in found]
    return {record.model: record for record in map(Scores.model_validate, records)}
