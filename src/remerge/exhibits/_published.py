"""The numbers that a paper reports for the benchmarks it ran, from the file beside an exhibit."""

from collections.abc import Iterable
from math import isnan, nan
from pathlib import Path

import pandas as pd


class Published:
    """One benchmark's numbers in one exhibit, by the paper's names of rows and columns."""

    def __init__(self, exhibit: str | Path, benchmark: str) -> None:
        """Read the numbers published for ``benchmark`` from the file beside an exhibit; most have none."""
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
        """The paper's name for a column, ignoring case and punctuation: ``SST2`` for SST-2."""
        return {_plain(column): column for column in self.columns}.get(_plain(label))

    def value(self, row: str | None, column: str | None) -> float:
        """The published number; NaN if there is none."""
        return float(self._values.get((row, column), nan))

    def text(self, row: str, column: str) -> str:
        """The published text; empty if there is none."""
        return str(self._values.get((row, column), ""))

    def half_width(self, row: str | None, column: str | None) -> float:
        """The published ± of that number; NaN if there is none."""
        return float(self._half_widths.get((row, column), nan))


def published_expert(exhibits: Iterable[Published], label: str) -> float:
    """The published score of a task's expert, in percent; NaN if no paper reports it."""
    for numbers in exhibits:
        task = numbers.column(label)
        # DRM lists experts in a row, DivMerge on the diagonal of a table.
        for row in ("Finetuned", task):
            if not isnan(value := numbers.value(row, task)):
                return value
    return nan


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
