"""Each method against the best.

Mean ANP over {all}, and its lead over {best}, the method with the highest mean, on the merges
that both make. The 95% interval and p come from a bootstrap of {draws:,} draws of test examples and of merges
of each size. Holm's correction of p is for all {pairs} pairs of methods, since the best was not known
beforehand. Bold: below 0.05. The merges share their tasks and examples: with other tasks, differences may be
larger. The CSV contains every pair.
"""

from itertools import combinations

from remerge.analysis.resampling import draws_for, holm
from remerge.analysis.significance import LEVEL
from remerge.config import Config
from remerge.exhibits._resampled import Comparison
from remerge.exhibits._rows import Row, frame
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether two methods make all merges."""
    return len(config.makers(*config.sizes)) > 1


def build(run: Run) -> Table:
    """One row per method."""
    draws = draws_for(len(run.variants))
    compared = Comparison(run, draws)
    names = [variant.name for variant in compared.variants]
    pairs = list(combinations(compared.variants, 2))
    p_values = [compared.lead(a.name, b.name).p for a, b in pairs]
    corrected = {frozenset(v.name for v in pair): p for pair, p in zip(pairs, holm(p_values), strict=True)}
    rows: list[Row] = []
    for variant in compared.variants:
        row: Row = {"variant": variant.name, "method": variant.label, "anp": compared.mean(variant.name)}
        for other in [other for other in compared.variants if other != variant]:
            found = compared.lead(variant.name, other.name)
            p_holm = corrected[frozenset({variant.name, other.name})]
            values = {"lead": found.mean, "low": found.low, "high": found.high, "p": found.p, "holm": p_holm}
            row |= {f"{key} over {other.name}": value for key, value in values.items()}
            row |= values if other == compared.best else {}
        rows.append(row)
    columns = [
        Column("method", "Method"),
        Column("anp", "Mean ANP", digits=2),
        Column("lead", "lead", "over the best", digits=2),
        Column("low", "from", "over the best", digits=2),
        Column("high", "to", "over the best", digits=2),
        Column("p", "p", "over the best", digits=5),
        Column("holm", "p, Holm", "over the best", digits=4),
    ]
    every = [f"{key} over {name}" for name in names for key in ("lead", "low", "high", "p", "holm")]
    bold = {(place, "holm") for place, row in enumerate(rows) if row.get("holm", 1) < LEVEL}
    best = {(names.index(compared.best.name), key) for key in ("method", "anp")}
    facts = {"best": compared.best.label, "pairs": len(pairs), "draws": draws}
    table = frame(rows, columns, "variant")
    whole = table.join(frame(rows, [Column(key, key) for key in every]))
    return Table(whole, tuple(columns), frozenset(bold | best), facts=facts)
