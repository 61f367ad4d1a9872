"""Random and learned methods over several seeds.

Mean ANP over the merges of each size ± its standard deviation over seeds, for the variants that are made with
several seeds.
"""

from remerge.config import Config
from remerge.exhibits._rows import Row, frame
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("merges",)


def applies(config: Config) -> bool:
    """Whether a variant has several seeds."""
    return any(variant.seeds > 1 for variant in config.merge.variants)


def build(run: Run) -> Table:
    """One row per variant, one column per size."""
    rows: list[Row] = []
    for variant in run.variants:
        seeds = run.config.variant(variant.name).seeds
        if seeds == 1:
            continue
        row: Row = {"variant": variant.name, "method": variant.label, "seeds": seeds}
        merges = run.merged[run.merged["variant"] == variant.name]
        for size, of_size in merges.groupby("size"):
            means = of_size.groupby("seed")["anp"].mean()
            row |= {f"{size}": float(means.mean()), f"{size}_spread": float(means.std())}
        rows.append(row)
    sizes = [Column(f"{size}", f"{size} tasks", digits=2, half_width=f"{size}_spread") for size in run.sizes]
    columns = [Column("method", "Method"), Column("seeds", "Seeds", digits=0), *sizes]
    return Table(frame(rows, columns, "variant"), tuple(columns))
