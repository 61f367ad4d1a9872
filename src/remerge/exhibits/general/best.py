"""The best merge, and the unmerged models.

Of the methods that make {all}, {best} has the highest mean ANP. The table shows its lead over
the next best method and over the unmerged models, on the same test examples of the same subsets. For each
subset, the best single expert is the one that does best on all tasks of the subset. The 95% interval and p
come from a bootstrap of {draws:,} draws of test examples and of merges of each size. The best was chosen on
these scores, which flatters its lead over the next; the table of all methods corrects p for this choice.
Bold: p below 0.05.
"""

from remerge.analysis.resampling import DRAWS
from remerge.analysis.significance import LEVEL
from remerge.config import Config
from remerge.exhibits._resampled import Comparison
from remerge.exhibits._rows import Row, frame
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether a method makes all merges."""
    return bool(config.makers(*config.sizes))


def build(run: Run) -> Table:
    """The best method first, then one row for each that it is compared with."""
    compared = Comparison(run, DRAWS, unmerged=True)
    best = compared.best
    means = {v.name: compared.mean(v.name) for v in compared.variants if v != best}
    whole = {name: mean for name, mean in means.items() if mean == mean}
    following = max(whole, key=lambda name: whole[name], default=None)
    labels = {v.name: v.label for v in (best, *compared.variants) if v.name in (best.name, following)}
    labels |= {model: MODELS[model] for model in ("base", "expert", "multitask") if model in compared.models}
    rows: list[Row] = []
    for model, label in labels.items():
        row: Row = {"variant": model, "method": label, "anp": compared.mean(model)}
        if model != best.name:
            found = compared.lead(best.name, model)
            row |= {"lead": found.mean, "low": found.low, "high": found.high, "p": found.p}
        rows.append(row)
    columns = [
        Column("method", "Model"),
        Column("anp", "Mean ANP", digits=2),
        Column("lead", "lead", "of the best", digits=2),
        Column("low", "from", "of the best", digits=2),
        Column("high", "to", "of the best", digits=2),
        Column("p", "p", "of the best", digits=4),
    ]
    bold = {(place, "p") for place, row in enumerate(rows) if row.get("p", 1) < LEVEL}
    bold |= {(0, "method"), (0, "anp")}
    facts = {"best": best.label, "draws": DRAWS}
    return Table(frame(rows, columns, "variant"), tuple(columns), frozenset(bold), frozenset({1}), facts)
