"""A paper's own numbers, from the file beside an exhibit, for the benchmarks that the paper ran."""

from collections.abc import Iterable
from math import isnan, nan
from pathlib import Path

import pandas as pd


class Published:
    """One benchmark's numbers in one exhibit, by row and column as the paper names them."""

    def __init__(self, exhibit: str | Path, benchmark: str) -> None:
        """Read the published numbers for ``benchmark`` beside an exhibit's file; most have none."""
        frame = pd.read_csv(Path(exhibit).with_suffix(".csv"), dtype={"row": str, "column": str})
        frame = frame[frame["benchmark"] == benchmark]
        keys = list(zip(frame["row"], frame["column"], strict=True))
        self._values = dict(zip(keys, frame["value"], strict=True))
        self._half_widths = dict(zip(keys, frame["plus_minus"], strict=True))

    def __bool__(self) -> bool:
        """Whether anything is published for this benchmark."""
        return bool(self._values)

    @property
    def columns(self) -> list[str]:
        """The columns, in the paper's order."""
        return list(dict.fromkeys(column for _, column in self._values))

    def column(self, label: str) -> str | None:
        """The paper's name of a column, whatever its case and hyphens: ``SST2`` for SST-2."""
        return {_plain(column): column for column in self.columns}.get(_plain(label))

    def value(self, row: str | None, column: str | None) -> float:
        """The published number, NaN where there is none."""
        return float(self._values.get((row, column), nan))

    def text(self, row: str, column: str) -> str:
        """The published text, empty where there is none."""
        return str(self._values.get((row, column), ""))

    def half_width(self, row: str | None, column: str | None) -> float:
        """The published ± of that number, NaN where there is none."""
        return float(self._half_widths.get((row, column), nan))


def published_expert(files: Iterable[Path], benchmark: str, label: str) -> float:
    """The published score of a task's expert, in percent; NaN where no paper gives it."""
    for file in files:
        numbers = Published(file, benchmark)
        task = numbers.column(label)
        # DRM gives experts a row, DivMerge the diagonal of a table.
        for row in ("Finetuned", task):
            if not isnan(value := numbers.value(row, task)):
                return value
    return nan


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
