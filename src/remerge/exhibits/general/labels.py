"""Wrong label words.

Mean ANP when the greedy answer must equal the gold answer (strict), when the model chooses among the task's
own labels only (restricted), and their gap: the points of ANP lost to words that are not a label of the task.
Each is relative to the task's expert under the same rule. With {largest} tasks merged, the mean strict ANP of
the {methods} methods is {strict}, a fall of {fall} points, and the mean restricted ANP is {restricted}. Wrong
label words therefore account for {gap} points of the fall: most for {most}, least for {least}.
"""

from remerge.config import Config
from remerge.exhibits._rows import frame, mean, method_rows, reference_rules
from remerge.report.run import Run
from remerge.report.table import Column, Table, number

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether every task is answered by one word of a list, and the largest merges are made."""
    listed = (
        task.answers and not task.chooses and not any("{" in answer for answer in task.answers)
        for task in config.tasks.values()
    )
    return config.base.speaks and all(listed) and bool(config.makers(max(config.sizes)))


def build(run: Run) -> Table:
    """Strict against restricted ANP by size."""
    rows = method_rows(run, {})
    columns = [Column("method", "Method")]
    for size in run.sizes:
        for row in rows:
            strict = row[f"{size}_strict"] = run.mean_anp(row["variant"], size)
            restricted = row[f"{size}_restricted"] = run.mean_anp(row["variant"], size, "restricted")
            row[f"{size}_gap"] = restricted - strict
        for key in ("strict", "restricted", "gap"):
            columns.append(Column(f"{size}_{key}", key, f"{size} tasks", digits=1))
    largest = run.sizes[-1]
    makers = {variant.name for variant in run.config.makers(largest)}
    merges = [row for row in rows if row["variant"] in makers]
    means = {key: mean(row[f"{largest}_{key}"] for row in merges) for key in ("strict", "restricted", "gap")}
    known = [row for row in merges if row[f"{largest}_gap"] == row[f"{largest}_gap"]] or merges
    most, *_, least = sorted([*known, *known], key=lambda row: -row[f"{largest}_gap"])
    facts = {
        "methods": len(merges),
        **{key: number(value, 1) for key, value in means.items()},
        "fall": number(100 - means["strict"], 1),
        **{
            key: f"{row['method']} ({number(row[f'{largest}_gap'], 1)})"
            for key, row in (("most", most), ("least", least))
        },
    }
    return Table(frame(rows, columns, "variant"), tuple(columns), rules=reference_rules(rows), facts=facts)
