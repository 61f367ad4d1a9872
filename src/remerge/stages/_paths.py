"""Where what several stages read lies, and what it is made from."""

from pathlib import Path

from remerge.config import Config, digest

DRAWN_BY = {"source", "subset", "revision", "splits", "sizes", "image", "target"}
"""The keys of a task that its examples follow from; how they are asked is decided when they are read."""


def data_file(folder: Path, task: str, split: str) -> Path:
    """Where a split of a benchmark lies."""
    return folder / "data" / task / f"{split}.parquet"


def settings_of_data(config: Config, task: str) -> dict[str, str]:
    """The settings by which a task's splits are drawn."""
    asked = config.task(task).model_dump(mode="json", include=DRAWN_BY)
    return {"settings": digest(asked, config.seed)}
