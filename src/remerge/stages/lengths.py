"""The lengths of the tasks' prompts, and how many are truncated."""

from remerge.config import SPLITS, Config
from remerge.measures.lengths import lengths
from remerge.records import Lengths, Prompts
from remerge.stages._paths import data_file
from remerge.stages._workspace import Workspace
from remerge.tasks import pairs


def run(config: Config) -> None:
    """Measure the length of every task's prompts in tokens, and count those that are truncated."""
    made(Workspace(config)).write(config.folder)


def made(space: Workspace) -> Lengths:
    """The record."""
    config = space.config

    def measured(task: str, split: str) -> Prompts:
        where = str(data_file(space.folder, task, split))
        asked = pairs(where, config.task(task), space.rows(task, split), config.base.speaks)
        return lengths(space.family, asked, space.split(task, split).judged)

    found = {task: {str(split): measured(task, split) for split in SPLITS} for task in config.tasks}
    return Lengths(benchmark=config.benchmark, prompts=found)
