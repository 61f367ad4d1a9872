"""The paths and origins of files that several stages read."""

from pathlib import Path

from remerge.config import Config, digest

DRAWN_BY = {"source", "subset", "revision", "splits", "sizes", "image", "target"}
"""The keys of a task that determine its examples; their prompts are made only when they are read."""


def data_file(folder: Path, task: str, split: str) -> Path:
    """The file of a split."""
    return folder / "data" / task / f"{split}.parquet"


def settings_of_data(config: Config, task: str) -> dict[str, str]:
    """The settings that determine a task's splits."""
    asked = config.task(task).model_dump(mode="json", include=DRAWN_BY)
    return {"settings": digest(asked, config.seed)}
