"""The form that tables share: one row per method, the paper's numbers beside ours, the best in bold."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from math import nan
from statistics import fmean
from typing import Any

import pandas as pd

from remerge import sources
from remerge.config import UNMERGED, Config
from remerge.exhibits._published import Published
from remerge.report.labels import MODELS
from remerge.report.recorded import Variant
from remerge.report.run import Run
from remerge.report.table import Column

Row = dict[str, Any]


def method_rows(run: Run, paper: Mapping[str, str]) -> list[Row]:
    """A row for the base, for every variant in order, and for multitask if there is one.

    ``paper_row`` is the paper's name for the row; ``paper`` maps our names to the paper's.
    """
    base, *multitask = (
        {"variant": name, "method": MODELS[name], "paper_row": paper.get(MODELS[name])}
        for name in run.references
    )
    methods = [{"variant": v.name, "method": v.label, "paper_row": paper.get(v.label)} for v in run.variants]
    return [base, *methods, *multitask]


def reference_rules(rows: list[Row]) -> frozenset[int]:
    """The positions of the rules that separate the references from the merges."""
    places = _merges(rows)
    return frozenset({places[0], places[-1] + 1})


def best(rows: list[Row], columns: Iterable[Column], keys: Collection[str]) -> frozenset[tuple[int, str]]:
    """The best cell among the merges in each column with one of these keys.

    There are several if they are printed as the same number.
    """
    marks = set()
    for key, digits in [(column.key, column.digits) for column in columns if column.key in keys]:
        values = {place: round(rows[place].get(key, nan), digits) for place in _merges(rows)}
        highest = max((value for value in values.values() if value == value), default=nan)
        marks |= {(place, key) for place, value in values.items() if value == highest}
    return frozenset(marks)


def beside(ours: Column, paper_key: str, paper: Published | None) -> list[Column]:
    """Our column, followed by the paper's under the same heading if the paper has one."""
    if not paper:
        return [ours]
    here = Column(ours.key, "ours", ours.head, ours.digits, ours.half_width)
    return [here, Column(paper_key, "paper", ours.head, ours.digits)]


def frame(rows: list[Row], columns: list[Column], *more: str) -> pd.DataFrame:
    """The rows with the printed columns, their half-widths, and ``more``, always in that order."""
    spreads = [column.half_width for column in columns if column.half_width]
    keys = list(dict.fromkeys([*more, *(column.key for column in columns), *spreads]))
    return pd.DataFrame([{key: row.get(key, nan) for key in keys} for row in rows], columns=keys)


def mean(values: Iterable[float]) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    defined = [value for value in values if value == value]
    return fmean(defined) if defined else nan


def loaded(runs: Iterable[Run]) -> str:
    """What a caption says of seconds if a rule of the user makes a variant."""
    said = "A merge of another tool is only loaded here: how long it took to make is unknown."
    return said if any(run.config.external for run in runs) else ""


def differing(runs: Iterable[Run]) -> str:
    """What a caption says of methods of one name that are others, or otherwise set, in another benchmark."""
    asked: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for run in runs:
        for variant in run.variants:
            if (how := _asked(run.config, variant)) not in asked[variant.label]:
                asked[variant.label].append(how)
    names = [label for label, several in asked.items() if len(several) > 1]
    return f"Their settings differ between benchmarks: {', '.join(names)}." if names else ""


def _asked(config: Config, variant: Variant) -> tuple[Any, ...]:
    """What a variant's name may not say: `merge.defaults`, and how parameters are chosen or learned."""
    method, written = sources.known().get(variant.method), config.variant(variant.name)
    params = {**(method.defaults if method else {}), **variant.params}
    search = config.tune if config.is_searched(written) else None
    learning = config.learning.batch_size if config.is_learned(written) else None
    return variant.method, params, search, learning


def counts(counts: Iterable[int]) -> str:
    """One number if all are equal, otherwise their range."""
    least, *_, most = sorted([*(found := list(counts)), *found])
    return str(least) if least == most else f"{least} to {most}"


def _merges(rows: list[Row]) -> list[int]:
    """The indices of the merges, between the references."""
    return [place for place, row in enumerate(rows) if row["variant"] not in UNMERGED]
