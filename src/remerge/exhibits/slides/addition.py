"""Score against the scale of the task vectors.

Mean test score over all tasks of the merge of {largest}, θ₀ + λ τ, against λ; the base is at 0. Horizontal
lines: averaging, which has no λ, and the unmerged models. Ring: the λ chosen on validation scores.
"""

from statistics import fmean

from remerge.config import Config
from remerge.exhibits._lines import label_ends
from remerge.exhibits._scales import curves, draw, mean_score
from remerge.report.figure import Figure
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.style import Style, style

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether several scales of a method are listed, and all tasks are merged."""
    from remerge.exhibits._scaled import scaled

    methods = [variant.method for variant in scaled(config, len(config.tasks))]
    return len({*methods}) < len(methods)


def build(run: Run) -> Figure:
    """One line per method."""
    size = len(run.tasks)
    (case,) = run.config.cases("subsets")[str(size)]
    figure = Figure(5.4, 3.6)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.105, right=0.645, top=0.96, bottom=0.13)
    base = mean_score(run.scores("base"))
    ends: list[tuple[float, str, Style]] = []
    for curve in curves(run, size):
        merged = curve.scores(case.name)
        values = {0.0: base} | {scale: fmean(scores.values()) for scale, scores in merged.items()}
        draw(axes, values, curve.look, curve.chosen)
        ends.append((values[max(values)], curve.label, curve.look))
    levels = {model: (MODELS[model], mean_score(run.scores(model)), style(model)) for model in run.references}
    averages = [v for v in run.variants if v.method == "average" and run.merges(v.name, size)]
    for variant in averages:
        value = fmean(mean_score(merge.scores) for merge in run.merges(variant.name, size))
        levels[variant.name] = (variant.label, value, style(variant.name))
    for label, value, look in levels.values():
        axes.axhline(value, color=look.colour, linestyle=look.line, zorder=2)
        ends.append((value, label, look))
    axes.set_xlabel("λ")
    axes.set_ylabel("mean score (%)")
    axes.grid(axis="y")
    axes.margins(x=0.03)
    label_ends(axes, axes.dataLim.x1, ends)
    return figure
