"""Merges of all tasks, by the source of λ.

Mean test score in % over the {largest} tasks, under the merge of all of them, with λ = 1, with the λ that is
best on validation splits, or with learned coefficients. As on the slide, task arithmetic is called by how
its experts were trained; the other methods' names include it, unless in the standard way. Bold: the best
merge.
"""

from collections.abc import Iterator
from statistics import fmean

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits._rows import Row, best, frame
from remerge.exhibits._scales import curves, mean_score
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.table import Column, Table

READS = ("scores", "merges")
FINE_TUNED = {
    "standard": "Non-linear fine-tuning",
    "lora": "LoRA fine-tuning",
    "linearised": "Linearised fine-tuning",
    "tau_jp": "τJp-regularised fine-tuning",
}
"""Task arithmetic is called by how its experts were trained, and others too if not in the standard way."""
PAPER = {
    MODELS["base"]: "Pre-trained",
    MODELS["multitask"]: "MTL",
    "Non-linear fine-tuning": "Non-lin. FT",
    "Linearised fine-tuning": "Linear FT",
    "τJp-regularised fine-tuning": "Ours",
    "TIES": "Ties-Merging",
    "AdaMerging (LL)": "AdaMerging",
}


def applies(config: Config) -> bool:
    """Whether all tasks are merged."""
    return len(config.tasks) in config.sizes


def build(run: Run) -> Table:
    """One row per method and λ."""
    rows = list(entries(run))
    columns = [Column("method", "Method"), Column("scale", "Coefficient λ"), Column("ours", "ours", digits=1)]
    columns += (
        [Column("paper", "paper", digits=1)] if any(row["paper"] == row["paper"] for row in rows) else []
    )
    bold = best(rows, columns, ["ours"])
    return Table(frame(rows, columns), tuple(columns), bold, frozenset({len(run.references)}))


def entries(run: Run) -> Iterator[Row]:
    """The rows of one benchmark: variant, method, scale, ours, paper."""
    size = len(run.tasks)
    (case,) = run.config.cases("subsets")[str(size)]
    paper = Published(__file__, run.benchmark)
    trained = "lora" if run.config.finetune.lora else run.config.finetune.recipe

    def named(label: str) -> str:
        if label == "Task arithmetic":
            return FINE_TUNED[trained]
        return label if trained == "standard" else f"{FINE_TUNED[trained]}, {label}"

    def entry(variant: str, method: str, scale: str, value: float, column: str) -> Row:
        return {
            "variant": variant,
            "method": method,
            "scale": scale,
            "ours": value,
            "paper": paper.value(PAPER.get(method), column),
        }

    for model in run.references:
        label = MODELS[model] if model == "base" else named(MODELS[model])
        yield entry(model, label, "–", mean_score(run.scores(model)), "–")
    for curve in curves(run, size):
        values = {scale: fmean(scores.values()) for scale, scores in curve.scores(case.name).items()}
        method = named(curve.label)
        if 1.0 in values:
            yield entry(curve.label, method, "1.0", values[1.0], "1.0")
        if curve.chosen is not None:
            value, scale = values[curve.chosen], f"searched: {curve.chosen:g}"
            yield entry(curve.label, method, scale, value, "Grid-searched")
    for variant in run.variants:
        merges = run.merges(variant.name, size)
        if any(merge.coefficients for merge in merges):
            value = fmean(mean_score(merge.scores) for merge in merges)
            yield entry(variant.name, named(variant.label), "trained", value, "Trained")
