"""A task's train, validation and test split, in the columns of its public dataset, and what is in them."""

from remerge.config import Config
from remerge.stages._paths import data_file
from remerge.tasks import described, make_splits, write_split


def run(config: Config, task: str) -> None:
    """Write the splits of one task (`python -m remerge data`)."""
    made = make_splits(task, config.task(task), config.seed)
    found = described(task, config.task(task), made)
    for split, rows in made.rows.items():
        write_split(data_file(config.folder, task, split), rows)
    found.write(config.folder, task=task)
