"""What exhibits are compared with, and how they are built."""

import json
from pathlib import Path
from typing import Any

from remerge import exhibits
from remerge.report.figure import Figure
from remerge.report.run import Run


def drawing(results: Path, name: str) -> Figure:
    """A figure of a run."""
    figure = exhibits.known()[name].build(Run(results))
    assert isinstance(figure, Figure)
    return figure


def merges(results: Path, variant: str, size: int) -> list[dict[str, Any]]:
    """The records of a size."""
    lines = (results / f"merges/{variant}/{size}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
