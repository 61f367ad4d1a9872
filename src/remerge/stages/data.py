"""A task's train, validation and test splits, in the columns of its public dataset, and their contents."""

from functools import partial

from remerge import contents, made
from remerge.config import Config, digest
from remerge.splits import described, make_splits
from remerge.stages._paths import data_file, settings_of_data
from remerge.tasks import write_split


def run(config: Config, task: str) -> None:
    """Write the splits of one task."""
    known, splits = follows(config, task), make_splits(task, config.task(task), config.seed)
    for split, rows in splits.rows.items():
        file = data_file(config.folder, task, split)
        made.make(config.folder, file, known, partial(write_split, rows=rows))
    described(task, config.task(task), splits).write(config.folder, task=task)


def follows(config: Config, task: str) -> dict[str, str]:
    """The inputs that a task's splits depend on, each by a digest."""
    sources = digest(contents.of_source(config.task(task).source))
    return {"sources": sources, **settings_of_data(config, task)}
