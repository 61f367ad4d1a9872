"""DRM with fewer ranks.

Mean test score in % over the tasks, under {what}, against the share of the joint basis's vectors that are
dropped, those with the smallest singular values first. Dotted: model averaging.
"""

from remerge.config import Config
from remerge.exhibits._lines import legend_above
from remerge.exhibits.general.tasks import tasks
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import MUTED, style

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether DRM is also merged with fewer ranks."""
    return any(
        variant.method in ("drm_h", "drm_v") and {*variant.params} == {"rank"}
        for variant in config.merge.variants
    )


def build(run: Run) -> Figure:
    """A line for each of DRM-H and DRM-V."""
    table = tasks(run)
    average = dict(zip(table.frame["variant"], table.frame["average"], strict=True))
    figure = Figure(4.2, 2.9)
    axes = figure.subplots()
    for method in ("drm_h", "drm_v"):
        cut = [v for v in run.variants if v.method == method and {*v.params} <= {"rank"}]
        points = sorted((1 - float(v.params.get("rank", 1)), average[v.name]) for v in cut)
        if len(points) > 1:
            label = next(v.label for v in run.variants if v.name == method)
            axes.plot(*zip(*points, strict=True), **style(method).line_options(), label=label)
    if "average" in average:
        axes.axhline(average["average"], color=MUTED, linestyle=(0, (1, 1.4)), label="Model averaging")
    axes.set_xlabel("share of ranks dropped")
    axes.set_ylabel("mean test score (%)")
    axes.grid(axis="y")
    legend_above(figure, axes)
    figure.facts = dict(table.facts)
    return figure
