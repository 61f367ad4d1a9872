"""Learned coefficients over prepared task vectors.

Mean ANP of each method by itself, and of coefficients learned over the task vectors that it prepares
(DivMerge, Remark 3, for which the paper shows no results): the mean over sizes ({smallest} to {largest}
experts), and the largest merges. The row of the experts is for their own vectors, where the method by itself
is task arithmetic. Bold: the best in a row under each heading.
"""

from collections.abc import Mapping
from math import nan
from statistics import fmean

from remerge.config import Config
from remerge.exhibits._rows import Row, frame
from remerge.exhibits._sweep import without
from remerge.report.labels import MODELS, printed
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")
ITSELF = "task_arithmetic"
"""The method that sums the vectors as they are, with a coefficient that is not learned."""


def applies(config: Config) -> bool:
    """Whether coefficients are learned over what a method has prepared, which is not chosen from several."""
    learned = [config.over(variant) for variant in config.merge.variants if config.is_learned(variant)]
    return any(over != ["none"] for over in learned if len(over) == 1)


def build(run: Run) -> Table:
    """A row for the base and each preparation, by itself and under each learned method."""
    # What prepares vectors knows nothing of a configuration's defaults, and has no scale.
    asked = run.config.merge.variants
    alone = {v.name for v in asked if {*run.config.params(v)} - {*v.params} <= {"scale"}}
    learned: dict[str, dict[str, str]] = {}
    for variant in run.variants:
        one = run.config.variant(variant.name)
        if run.config.is_learned(one) and len(run.config.over(one)) == 1:
            name, _ = without(variant, "over")
            learned.setdefault(name, {})[str(variant.params.get("over", "none"))] = variant.name
    heads = {"average": "Mean over sizes", "largest": f"{run.sizes[-1]} tasks"}
    columns = [Column("method", "Vectors of")]
    for key, head in heads.items():
        columns.append(Column(f"alone_{key}", "by itself", head, digits=2))
        columns += [Column(f"{name}_{key}", name, head, digits=2) for name in learned]
    rows: list[Row] = []
    for over in dict.fromkeys(over for variants in learned.values() for over in variants):
        own = ITSELF if over == "none" else over
        row: Row = {"over": over, "method": "the experts" if over == "none" else str(printed(over))}
        row |= _anp(run, "alone", own if own in alone else None)
        for name, variants in learned.items():
            row |= _anp(run, name, variants.get(over))
        rows.append(row)
    bold = {
        (place, key)
        for place, row in enumerate(rows, 1)
        for some in ([c.key for c in columns if c.group == head] for head in heads.values())
        for key in some
        if round(row[key], 2) == max((round(row[k], 2) for k in some if row[k] == row[k]), default=nan)
    }
    base = {"over": "base", "method": MODELS["base"], **_anp(run, "alone", "base")}
    return Table(frame([base, *rows], columns, "over"), tuple(columns), frozenset(bold), frozenset({1}))


def _anp(run: Run, key: str, variant: str | None) -> Mapping[str, float]:
    """A variant's mean over all sizes, and over the largest merges; NaN without a variant."""
    means = [run.mean_anp(variant, size) if variant else nan for size in run.sizes]
    return {f"{key}_average": fmean(means), f"{key}_largest": means[-1]}
