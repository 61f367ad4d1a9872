"""Methods by benchmarks.

Mean ANP of the largest merges of each benchmark, and its mean over the benchmarks, of methods that all of
them have. Bold: the best merge of a column.
"""

from remerge.exhibits._rows import Row, best, frame, mean
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")


def build(runs: list[Run]) -> Table:
    """A row a method, a column a benchmark."""
    names = [run.benchmark for run in runs]
    rows: dict[str, Row] = {}
    for run in runs:
        labels = {name: MODELS[name] for name in run.references} | {v.name: v.label for v in run.variants}
        for variant, label in labels.items():
            row = rows.setdefault(label, {"variant": variant, "method": label})
            row[run.benchmark] = run.mean_anp(variant, run.sizes[-1])
    filled = [{**dict.fromkeys(names, float("nan")), **row} for row in rows.values()]
    for row in filled:
        row["mean"] = mean(row[name] for name in names)
    columns = [Column("method", "Method"), *(Column(name, name, digits=1) for name in names)]
    columns += [Column("mean", "mean", digits=1)] if len(names) > 1 else []
    unmerged = len([row for row in filled if row["variant"] in ("base", "multitask")])
    bold = best(filled, [*names, "mean"])
    return Table(frame(filled, columns, "variant"), tuple(columns), bold, frozenset({unmerged}))
