"""The papers' own numbers, from ``config/published``, for benchmarks that the papers ran."""

from functools import cache
from math import nan
from pathlib import Path

import pandas as pd

from remerge.errors import UserError

FOLDERS = (Path(__file__).parents[3] / "config" / "published", Path("config/published"))


class Published:
    """One benchmark's published numbers, by table, row and column as the paper names them."""

    def __init__(self, benchmark: str) -> None:
        """Take what is published about ``benchmark``; that is nothing for most."""
        frame = _read()
        frame = frame[frame["benchmark"] == benchmark]
        keys = frame[["table", "row", "column"]].itertuples(index=False, name=None)
        self._values = dict(zip(keys, frame["value"], strict=True))
        keys = frame[["table", "row", "column"]].itertuples(index=False, name=None)
        self._half_widths = dict(zip(keys, frame["plus_minus"], strict=True))

    def __bool__(self) -> bool:
        """Whether anything is published for this benchmark."""
        return bool(self._values)

    def __contains__(self, table: object) -> bool:
        """Whether anything of ``table`` is published for this benchmark."""
        return any(key[0] == table for key in self._values)

    def first(self, *tables: str) -> str | None:
        """The first of ``tables`` with published numbers."""
        return next((table for table in tables if table in self), None)

    def columns(self, table: str) -> list[str]:
        """The columns of ``table``, in the paper's order."""
        return list(dict.fromkeys(column for name, _, column in self._values if name == table))

    def column(self, table: str | None, label: str) -> str | None:
        """What ``table`` calls a column, whatever its case and hyphens: ``SST2`` for SST-2."""
        plain = {_plain(column): column for column in (self.columns(table) if table else [])}
        return plain.get(_plain(label))

    def value(self, table: str | None, row: str | None, column: str | None) -> float:
        """The published number, NaN where there is none."""
        return float(self._values.get((table, row, column), nan))

    def half_width(self, table: str | None, row: str | None, column: str | None) -> float:
        """The published ± of that number, NaN where there is none."""
        return float(self._half_widths.get((table, row, column), nan))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


@cache
def _read() -> pd.DataFrame:
    folder = next((folder for folder in FOLDERS if folder.is_dir()), None)
    if folder is None:
        raise UserError("config/published is missing: run in the repository's root")
    text = {"row": str, "column": str}
    return pd.concat([pd.read_csv(f, dtype=text) for f in sorted(folder.glob("*.csv"))])
