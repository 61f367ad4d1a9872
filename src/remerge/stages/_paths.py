"""Where what several stages read lies."""

from pathlib import Path


def data_file(folder: Path, task: str, split: str) -> Path:
    """Where a split of a benchmark lies."""
    return folder / "data" / task / f"{split}.parquet"
