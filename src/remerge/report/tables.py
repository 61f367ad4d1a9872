"""The tables of the papers, and three of our own, from records.

Each builder is the table's definition; ``TABLES`` names them after the papers' own numbering.
Published numbers stand beside ours where the paper ran this very benchmark.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from remerge.analysis.correlation import spearman
from remerge.analysis.significance import mean_interval
from remerge.errors import UserError
from remerge.files import write_text
from remerge.report.drm import drm_table10
from remerge.report.labels import METHODS, task_label
from remerge.report.records import Records
from remerge.report.rows import Row, beside, best, counts, frame, mean, method_rows, reference_rules
from remerge.report.table import Column, Table


def divmerge_table2(records: Records) -> Table:
    """Spearman's ρ between divergence and accuracy (DivMerge, Table 2).

    For each evaluated task, over the experts i, its own among them, between D(θ_t, θ_i | X_t) and
    the accuracy of expert i; divergence falls where accuracy rises, so the sign is flipped.
    """
    paper = records.published.first("divmerge_table2")
    kinds = {"kl": "KL", "js": "JS"}
    divergences = {kind: records.divergence(kind) for kind in kinds}
    rows: list[Row] = []
    for task in records.tasks:
        accuracy = records.accuracy.loc[records.tasks, task].tolist()
        row: Row = {"task": task, "label": task_label(task)}
        for kind, head in kinds.items():
            row[kind] = -spearman(divergences[kind][task].tolist(), accuracy)
            row[f"{kind}_paper"] = records.published.value(paper, row["label"], head)
        rows.append(row)
    average: Row = {"task": "average", "label": "Average"}
    for kind, head in kinds.items():
        average[kind] = mean(row[kind] for row in rows)
        average[f"{kind}_paper"] = records.published.value(paper, "Avg.", head)
    columns = [Column("label", "Task")]
    for kind, head in kinds.items():
        columns += beside(Column(kind, head, digits=3), f"{kind}_paper", paper)
    return Table(
        "divmerge_table2",
        "Divergence and accuracy",
        f"Spearman correlation, sign flipped, between the divergence of expert i from the task's own "
        f"expert on the task's validation inputs (n = {counts(records.divergence_inputs())}) and the "
        f"test accuracy of expert i on the task, over the {len(rows)} experts i, the task's own "
        f"among them (DivMerge, Table 2).",
        frame([*rows, average], columns, "task"),
        tuple(columns),
        rules=frozenset({len(rows)}),
    )


def divmerge_table3(records: Records) -> Table:
    """Mean ANP over the smallest merges, pairs as a rule, ± half of its 95% t interval (Table 3)."""
    size = records.sizes[0]
    paper = records.published.first("divmerge_table3") if size == 2 else None
    in_paper = records.published.columns(paper)[0] if paper else None
    rows = method_rows(records)
    for row in rows:
        values = records.anp_of(row["variant"], size)
        row["n"] = len(values)
        row["anp"], row["half_width"] = mean_interval(values)
        row["paper"] = records.published.value(paper, row["paper_row"], in_paper)
        row["paper_half_width"] = records.published.half_width(paper, row["paper_row"], in_paper)
    ours = Column("anp", "Mean ANP", digits=2, half_width="half_width")
    theirs = Column("paper", "Paper", digits=2, half_width="paper_half_width")
    columns = [Column("method", "Method"), *([ours, theirs] if paper else [ours])]
    return Table(
        "divmerge_table3",
        "Pairs" if size == 2 else f"Merges of {size}",
        f"ANP over all n = {rows[0]['n']} merges of {size} experts: mean ± half-width of the 95% Student "
        f"t interval over merges (DivMerge, Table 3). The unmerged models are scored on the same tasks. "
        f"Bold: the best merge.",
        frame(rows, columns, "variant", "n"),
        tuple(columns),
        best(rows, ["anp"]),
        reference_rules(rows),
    )


def divmerge_table5(records: Records) -> Table:
    """Each expert on every task's test split, with the base and multitask (DivMerge, Table 5)."""
    paper = records.published.first("divmerge_table5")
    names = [*records.tasks, *records.references]
    rows: list[Row] = []
    for model in names:
        row: Row = {"model": model, "label": METHODS.get(model, task_label(model))}
        for task in records.tasks:
            row[task] = 100 * float(records.accuracy[task][model])
            row[f"{task}_paper"] = records.published.value(paper, row["label"], task_label(task))
        rows.append(row)
    columns = [Column("label", "Expert of")]
    for task in records.tasks:
        columns += beside(Column(task, task_label(task), digits=2), f"{task}_paper", paper)
    scores = records.scores("base")
    metrics = "/".join(dict.fromkeys(str(scores[task]["metric"]) for task in records.tasks))
    return Table(
        "divmerge_table5",
        "Every expert on every task",
        f"Test {metrics} in %, strict (the greedy answer equals the gold answer), of each expert "
        f"(rows) on every task (columns), n = {counts(scores[t]['n'] for t in records.tasks)} "
        f"(DivMerge, Table 5). Bold: an expert on its own task.",
        frame(rows, columns, "model"),
        tuple(columns),
        frozenset((place, task) for place, task in enumerate(records.tasks)),
        frozenset({len(records.tasks)}),
    )


def divmerge_table6(records: Records) -> Table:
    """Mean ANP by the number of merged tasks (DivMerge, Tables 6 and 7, transposed).

    A row here is a column there, so that the base and multitask have a row of their own; the average
    is that of the sizes' means, as in the paper.
    """
    paper = records.published.first("divmerge_table6", "divmerge_table7")
    sizes = [str(size) for size in records.sizes]
    rows = method_rows(records)
    for row in rows:
        for size in sizes:
            row[size] = fmean(records.anp_of(row["variant"], int(size)))
            row[f"{size}_paper"] = records.published.value(paper, size, row["paper_row"])
        row["average"] = fmean(row[size] for size in sizes)
        row["average_paper"] = records.published.value(paper, "Average", row["paper_row"])
    columns = [Column("method", "Method")]
    for size in sizes:
        columns += beside(Column(size, f"{size} tasks", digits=2), f"{size}_paper", paper)
    columns += beside(Column("average", "Average", digits=2), "average_paper", paper)
    merged = [len(records.anp_of("base", size)) for size in records.sizes]
    source = "7" if paper == "divmerge_table7" else "6"
    doubt = f" On pairs the paper's own Tables 3 and {source} do not agree." if paper else ""
    return Table(
        "divmerge_table6",
        "ANP by number of tasks",
        f"Mean ANP over all merges of {sizes[0]} to {sizes[-1]} experts (n = "
        f"{', '.join(map(str, merged))}), and the mean of these means (DivMerge, Table {source}, "
        f"transposed). Bold: the best merge of a column.{doubt}",
        frame(rows, columns, "variant"),
        tuple(columns),
        best(rows, [*sizes, "average"]),
        reference_rules(rows),
    )


def labels(records: Records) -> Table:
    """Strict against restricted ANP: how much of a fall is wrong label words."""
    rows = method_rows(records)
    columns = [Column("method", "Method")]
    for size in records.sizes:
        for row in rows:
            strict, restricted = (
                fmean(records.anp_of(row["variant"], size, kind)) for kind in ("anp", "restricted")
            )
            row[f"{size}_strict"], row[f"{size}_restricted"] = strict, restricted
            row[f"{size}_gap"] = restricted - strict
        for key, head in (("strict", "strict"), ("restricted", "restricted"), ("gap", "gap")):
            columns.append(Column(f"{size}_{key}", head, f"{size} tasks", digits=1))
    return Table(
        "labels",
        "Wrong label words",
        "Mean ANP when the greedy answer must equal the gold answer (strict), when only the task's own "
        "labels may be answered (restricted), and their gap: the points of ANP lost to words that are "
        "no label of the task. Each is relative to the task's expert under the same rule.",
        frame(rows, columns, "variant"),
        tuple(columns),
        rules=reference_rules(rows),
    )


def selection(records: Records) -> Table:
    """The grid of every tuned variant and its choice, by merit on validation splits."""
    rows: list[Row] = []
    bold: set[tuple[int, str]] = set()
    subsets: dict[str, None] = {}
    for variant in records.tuned:
        record = records.selection(variant.name)
        subsets.update(dict.fromkeys(record["subsets"]))
        for point in record["grid"]:
            words = [f"{key} {value}" for key, value in point["params"].items()]
            if point["params"] == record["chosen"]:
                bold |= {(len(rows), "params"), (len(rows), "mean")}
            rows.append(
                {
                    "variant": variant.name,
                    "method": variant.label,
                    "params": ", ".join(words),
                    "mean": float(point["mean"]),
                }
            )
    columns = [
        Column("method", "Method"),
        Column("params", "Parameters"),
        Column("mean", "Validation", digits=2),
    ]
    return Table(
        "selection",
        "Tuned parameters",
        f"Mean ANP on validation splits of the merges {', '.join(subsets) or 'of no variant'}. Bold: the "
        "choice, used for every merge of that variant; of equal points it is the first.",
        frame(rows, columns, "variant"),
        tuple(columns),
        frozenset(bold),
    )


def seconds(records: Records) -> Table:
    """Mean seconds of one merge by method: making the merge, learning coefficients, scoring."""
    parts = {"merge": "merge", "fit": "fit", "evaluate": "evaluate", "total": "total"}
    rows: list[Row] = []
    for variant in records.variants:
        merges = records.merges[records.merges["variant"] == variant.name]
        row: Row = {"variant": variant.name, "method": variant.label, "n": len(merges)}
        row.update({part: float(merges[part].mean()) for part in ("merge", "fit", "evaluate")})
        row["total"] = row["merge"] + row["fit"] + row["evaluate"]
        rows.append(row)
    columns = [Column("method", "Method")]
    columns += [Column(key, head, "seconds", digits=3) for key, head in parts.items()]
    device = records.base.get("device", "unknown")
    return Table(
        "seconds",
        "Seconds a merge",
        f"Mean seconds of one merge over all n = {rows[0]['n']} merges of a method, sizes "
        f"{records.sizes[0]} to {records.sizes[-1]}, device {device}: merging the weights, fitting "
        f"the coefficients, scoring the merged model on the test splits of its tasks.",
        frame(rows, columns, "variant", "n"),
        tuple(columns),
    )


TABLES: dict[str, Callable[[Records], Table]] = {
    "divmerge_table2": divmerge_table2,
    "divmerge_table3": divmerge_table3,
    "divmerge_table5": divmerge_table5,
    "divmerge_table6": divmerge_table6,
    "drm_table10": drm_table10,
    "labels": labels,
    "selection": selection,
    "seconds": seconds,
}


def write_table(name: str, results: Path) -> None:
    """Write ``tables/<name>.csv``, ``.md`` and ``.tex``.

    Raises:
        UserError: no table has that name, or a record is missing.
    """
    if name not in TABLES:
        raise UserError(f"unknown table {name!r}, known: {', '.join(TABLES)}")
    table = TABLES[name](Records(results))
    for suffix, text in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
        write_text(Path(results) / "tables" / f"{name}.{suffix}", text)
