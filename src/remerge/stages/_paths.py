"""The paths and origins of files that several stages read."""

from pathlib import Path

from remerge.config import Config, digest

DRAWN_BY = {"source", "subset", "revision", "splits", "sizes", "image", "target"}
"""The keys of a task that determine its examples; their prompts are made only when they are read."""

LEFT_OUT_BY = {"missing", "prompt", "answers", "labels"}
"""The keys that determine with them which examples are left out, if any are, since something is missing."""


def data_file(folder: Path, task: str, split: str) -> Path:
    """The file of a split."""
    return folder / "data" / task / f"{split}.parquet"


def settings_of_data(config: Config, task: str) -> dict[str, str]:
    """The settings that determine a task's splits."""
    asked = config.task(task)
    keys = DRAWN_BY | (LEFT_OUT_BY if asked.missing == "drop" else set())
    # All answers are needed where they are compared.
    more = ["choice"] if asked.missing == "drop" and asked.chooses else []
    return {"settings": digest(asked.model_dump(mode="json", include=keys), config.seed, *more)}
