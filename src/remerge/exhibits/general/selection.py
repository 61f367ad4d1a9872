"""Parameters chosen on validation scores.

The merit on validation splits of every point of a grid that was tried, or of the best {most} of many: the
mean over the merges on which they were tried ({subsets}). {merits} Bold: the choice, used for every merge of
that variant; among equal points it is the first. {diverged}
"""

from collections.abc import Iterator, Mapping
from inspect import getdoc
from typing import Any

from remerge.config import Config
from remerge.exhibits._rows import Row, frame
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("selection",)
MOST = 8
"""Points of a grid that are printed."""


def applies(config: Config) -> bool:
    """Whether a parameter is tuned."""
    return any(config.is_tuned(variant) for variant in config.merge.variants)


def build(run: Run) -> Table:
    """The grid of every tuned variant; what is left of a long one has the order of the grid."""
    rows: list[Row] = []
    bold: set[tuple[int, str]] = set()
    subsets: dict[str, None] = {}
    plans: dict[str, None] = {}
    diverged: dict[str, int] = {}
    for variant, record in run.selections():
        subsets |= dict.fromkeys(record.subsets)
        plans[record.plan] = None
        if record.diverged:
            diverged[variant.label] = diverged.get(variant.label, 0) + len(record.diverged)
        least = sorted((point.mean for point in record.grid), reverse=True)[:MOST][-1]
        for point in [point for point in record.grid if point.mean >= least]:
            if point.params == record.chosen:
                bold |= {(len(rows), "params"), (len(rows), "mean")}
            words = ", ".join(_words(point.params))
            row: Row = {"variant": variant.name, "plan": record.plan, "method": variant.label}
            rows.append(row | {"params": words, "mean": point.mean})
    columns = (
        Column("method", "Method"),
        Column("plan", "Plan"),
        Column("params", "Parameters"),
        Column("mean", "Validation", digits=2),
    )
    left_out = ", ".join(f"{count} of {label}" for label, count in diverged.items())
    facts = {
        "subsets": ", ".join(subsets),
        "most": MOST,
        "merits": " ".join(f"Merit of {plan}: {_merit(run, plan)}" for plan in plans),
        "diverged": f"Points at which a merge diverged have no merit: {left_out}." if diverged else "",
    }
    return Table(frame(rows, list(columns), "variant"), columns, frozenset(bold), facts=facts)


def _merit(run: Run, plan: str) -> str:
    """A plan's own definition of merit, as the end of a sentence."""
    said = (getdoc(run.config.planned[plan].merit) or "").partition("\n")[0]
    return said[:1].lower() + said[1:]


def _words(params: Mapping[str, Any], *above: str) -> Iterator[str]:
    """Parameters in words: ``density 0.2``, ``scale cola 0.4``."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _words(value, *above, key)
        else:
            yield f"{' '.join((*above, key))} {value}"
