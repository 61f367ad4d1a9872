"""Does the validation score choose the right merge?

Mean ANP of each tuned method over the merges on which it was tuned ({subsets}): its choice on validation
splits, and the same choice on test splits. Tried: the points of its grid. Known: the points with a known test
score, which are the choice and those that other variants merge. Lost: by how much the best of these test
scores exceeds that of the choice. {between}
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from remerge.analysis.correlation import spearman
from remerge.config import Config
from remerge.exhibits._rows import Row, frame
from remerge.records import Merge
from remerge.report.run import Run
from remerge.report.table import Column, Table, number
from remerge.variants import start_of

READS = ("merges", "selection")


def applies(config: Config) -> bool:
    """Whether a method is tuned on subsets that are merged."""
    cases = config.cases("subsets")
    made = {case.name for group in cases.values() for case in group}
    tried = config.planned["subsets"].tuning(cases)
    return made >= {case.name for case in tried} and any(
        "subsets" in config.chosen_for(variant) and config.tuning(variant, "subsets") == tried
        for variant in config.merge.variants
    )


def build(run: Run) -> Table:
    """One row per tuned method; the caption says what a choice among the methods by validation would cost."""
    merges = [merge for v in run.variants for size in run.sizes for merge in run.merges(v.name, size)]
    rows: list[Row] = []
    subsets: dict[str, None] = {}
    config = run.config
    tried = config.planned["subsets"].tuning(config.cases("subsets"))
    for variant, record in run.selections():
        if record.plan != "subsets":
            continue
        if config.tuning(config.variant(variant.name), "subsets") != tried:
            continue  # what was chosen on other merges is not compared
        chosen = [m for m in merges if m.variant == variant.name and m.case in record.subsets]
        subsets |= dict.fromkeys(record.subsets)
        test = _mean(chosen)
        others = [
            _on_test(merges, chosen, point.params) for point in record.grid if point.params != record.chosen
        ]
        known = [test, *(value for value in others if value is not None)]
        rows.append(
            {
                "variant": variant.name,
                "method": variant.label,
                "validation": max(point.mean for point in record.grid),
                "test": test,
                "tried": len(record.grid),
                "known": len(known),
                "lost": max(known) - test if len(known) > 1 else float("nan"),
            }
        )
    columns = (
        Column("method", "Method"),
        Column("validation", "validation", "the choice", digits=2),
        Column("test", "test", "the choice", digits=2),
        Column("tried", "tried", "points", digits=0),
        Column("known", "known", "points", digits=0),
        Column("lost", "lost", "points", digits=2),
    )
    facts = {"subsets": ", ".join(subsets), "between": _between(rows)}
    return Table(frame(rows, list(columns), "variant"), columns, facts=facts)


def _on_test(merges: list[Merge], chosen: list[Merge], point: Mapping[str, Any]) -> float | None:
    """The test score of another point of a grid, if some variant merges all of the choice's cases so."""
    found = [
        [
            merge
            for merge in merges
            if (merge.method, merge.case) == (mine.method, mine.case)
            and merge.params == _settings(mine, point)
        ]
        for mine in chosen
    ]
    return fmean(map(_mean, found)) if all(found) else None


def _settings(merge: Merge, point: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a merge at another point of its grid, as its record would have them."""
    given = {**merge.params, **point}
    return given | ({"initial": start_of(given["initial"], merge.size)} if "initial" in given else {})


def _mean(merges: list[Merge]) -> float:
    return fmean(merge.anp for merge in merges if merge.anp is not None)


def _between(rows: list[Row]) -> str:
    """The result of choosing one of the methods by its validation score."""
    if len(rows) < 2:
        return ""
    picked, best = (max(rows, key=lambda row: row[key]) for key in ("validation", "test"))
    ours, theirs = number(picked["test"], 2), number(best["test"], 2)
    verdict = f"which is the best on test, {theirs}"
    if picked["test"] < best["test"]:
        verdict = f"{ours} on test, where {best['method']} is the best with {theirs}"
    correlation = spearman(*([row[key] for row in rows] for key in ("validation", "test")))
    return (
        f"Of the {len(rows)} methods, validation chooses {picked['method']}, {verdict}. Spearman's ρ of "
        f"validation and test over the methods: {number(correlation, 2)}."
    )
