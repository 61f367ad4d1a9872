"""The score of every model that stands unmerged, on every task."""

from typing import Any

from torch import nn

from remerge.config import Config
from remerge.measures.score import score
from remerge.records import Score, Scores
from remerge.stages._every_task import on_every_task
from remerge.stages._workspace import Workspace


def run(config: Config) -> None:
    """Score base, multitask model (if any) and every expert on every task's test split."""

    def compute(space: Workspace, model: nn.Module, task: str) -> Any:
        labels = space.labels_of(list(config.tasks))
        return score(space.family, model, space.split(task, "test"), config.evaluation.batch_size, labels)

    joint = config.base.fixed_heads
    found = on_every_task(config, "scores", Score, config.models, "test", compute, joint=joint)
    for model, scores in found.items():
        record = {"benchmark": config.benchmark, "model": model, "scores": scores}
        Scores.model_validate(record).write(config.folder, model=model)
