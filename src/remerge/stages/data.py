"""A task's train, validation and test split, in the columns of its public dataset."""

from remerge.config import Config
from remerge.stages._paths import data_file
from remerge.tasks import make_splits, write_split


def run(config: Config, task: str) -> None:
    """Write the splits of one task (`python -m remerge data`)."""
    for split, rows in make_splits(task, config.task(task), config.seed).items():
        write_split(data_file(config.folder, task, split), rows)
