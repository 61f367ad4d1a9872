"""DRM-H against the methods that the paper compares it with, size by size."""

from statistics import fmean

from remerge.analysis.significance import LEVEL, paired_p
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, frame, mean
from remerge.report.run import Run
from remerge.report.table import Column, Table

BASELINES = {"Model averaging": "Averaging", "TIES": "Ties", "DARE-TIES": "Dare-ties"}
"""The labels of methods, and their names in the paper's Tables 5 and 6."""


def paired(run: Run, paper: Published) -> Table:
    """One row per size; for each baseline, the mean lead, its p-value, and the paper's p-value."""
    makers = {variant.name for variant in run.config.makers(*run.sizes)}
    labels = {v.name: v.label for v in run.variants if v.label in BASELINES and v.name in makers}
    rows: list[Row] = []
    columns = [Column("size", "Tasks", digits=0), Column("n", "Pairs", digits=0)]
    for variant, label in labels.items():
        columns.append(Column(f"{variant}_lead", "lead", f"over {label}", digits=2))
        columns.append(Column(f"{variant}_p", "p", f"over {label}", digits=2, scientific=True))
        if paper:
            columns.append(
                Column(f"{variant}_paper", "paper's p", f"over {label}", digits=2, scientific=True)
            )
    bold: set[tuple[int, str]] = set()
    for size in run.sizes:
        ours = shares(run, "drm_h", size)
        row: Row = {"size": size, "n": len(ours)}
        for variant, label in labels.items():
            theirs = shares(run, variant, size)
            row[f"{variant}_lead"] = 100 * mean(ours[pair] - theirs[pair] for pair in ours)
            row[f"{variant}_p"] = paired_p(list(ours.values()), [theirs[pair] for pair in ours])
            row[f"{variant}_paper"] = paper.value(BASELINES[label], str(size))
            bold |= {(len(rows), key) for key in (f"{variant}_p", f"{variant}_paper") if row[key] < LEVEL}
        rows.append(row)
    return Table(frame(rows, columns), tuple(columns), frozenset(bold))


def shares(run: Run, variant: str, size: int) -> dict[tuple[str, str], float]:
    """For each subset and task, the merge's share of the expert's score, averaged over seeds."""
    found: dict[tuple[str, str], list[float]] = {}
    for merge in run.merges(variant, size):
        for task, share in merge.normalised.items():
            found.setdefault((merge.case, task), []).append(share)
    return {pair: fmean(values) for pair, values in found.items()}
