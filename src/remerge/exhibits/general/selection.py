"""Settings chosen on validation scores.

Mean ANP on validation splits of the merges {subsets}, by learning rate and initial coefficient λ₀ (T: the
number of merged tasks). Bold: the choice, used for every merge of that method.
"""

from remerge.config import Config
from remerge.exhibits._rows import Row, frame
from remerge.report.run import Run
from remerge.report.table import Column, Table
from remerge.sources import known

READS = ("selection",)


def applies(config: Config) -> bool:
    """Where a method learns."""
    from remerge.sources import known

    return any(known()[variant.method].learned for variant in config.merge.variants)


def build(run: Run) -> Table:
    """The grid of every learned method and its choice."""
    learned = [variant for variant in run.variants if known()[variant.method].learned]
    rows: list[Row] = []
    grid: dict[str, Column] = {}
    bold: set[tuple[int, str]] = set()
    subsets: dict[str, None] = {}
    for variant in learned:
        record = run.selection(variant.name)
        subsets |= dict.fromkeys(record.subsets)
        row: Row = {"variant": variant.name, "method": variant.label}
        for point in record.grid:
            rate, initial = (point.settings[key] for key in ("learning_rate", "initial"))
            key = f"lr={rate:g},initial={initial}"
            grid[key] = Column(key, f"λ₀ = {initial}", f"learning rate {rate:g}", digits=2)
            row[key] = point.mean
            if point.settings == record.chosen:
                bold.add((len(rows), key))
        row["learning_rate"] = f"{record.chosen['learning_rate']:g}"
        row["initial"] = str(record.chosen["initial"])
        rows.append(row)
    columns = [
        Column("method", "Method"),
        *grid.values(),
        Column("learning_rate", "learning rate", "chosen"),
        Column("initial", "λ₀", "chosen"),
    ]
    facts = {"subsets": ", ".join(subsets)}
    return Table(frame(rows, columns, "variant"), tuple(columns), frozenset(bold), facts=facts)
