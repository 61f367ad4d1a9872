"""Seconds per merge.

Mean time of one merge in seconds on device {device}: merging the weights, fitting the coefficients, and
scoring the merged model on the test splits of the tasks that judge it. Merges: how many the mean is over, all
those of {span} tasks that a method makes, with each of its seeds. {loaded}
"""

from remerge.exhibits._rows import Row, frame, loaded
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("base", "merges")
PARTS = ("merge", "fit", "evaluate")


def build(run: Run) -> Table:
    """One row per method."""
    rows: list[Row] = []
    for variant in run.variants:
        merges = run.merged[run.merged["variant"] == variant.name]
        row: Row = {"variant": variant.name, "method": variant.label, "n": len(merges)}
        row |= {part: float(merges[part].mean()) for part in PARTS}
        row["total"] = sum(row[part] for part in PARTS)
        rows.append(row)
    columns = [Column("method", "Method"), Column("n", "Merges", digits=0)]
    columns += [Column(part, part, "seconds", digits=3) for part in (*PARTS, "total")]
    span = " to ".join(map(str, sorted({run.sizes[0], run.sizes[-1]})))
    facts = {"device": run.model("base").device, "span": span, "loaded": loaded([run])}
    return Table(frame(rows, columns, "variant", "n"), tuple(columns), facts=facts)
