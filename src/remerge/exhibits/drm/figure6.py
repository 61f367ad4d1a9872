"""DRM with fewer ranks.

Mean test score in % over the tasks, under {what}, against the share of the joint basis's vectors that are
dropped, those with the smallest singular values first. Dotted: model averaging.
"""

from remerge.config import Config
from remerge.exhibits._lines import legend_above
from remerge.exhibits.general.tasks import tasks
from remerge.report.figure import Figure
from remerge.report.labels import printed
from remerge.report.run import Run
from remerge.report.style import MUTED, style
from remerge.variants import is_tuned

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether DRM is merged with several ranks, none of them chosen on validation scores."""
    cut = [
        variant.method
        for variant in config.merge.variants
        if {*config.params(variant)} <= {"rank"} and not config.is_tuned(variant)
    ]
    return any(cut.count(method) > 1 for method in ("drm_h", "drm_v"))


def build(run: Run) -> Figure:
    """A line for each of DRM-H and DRM-V."""
    table = tasks(run)
    average = dict(zip(table.frame["variant"], table.frame["average"], strict=True))
    figure = Figure(4.2, 2.9)
    axes = figure.subplots()
    for method in ("drm_h", "drm_v"):
        cut = [v for v in run.variants if v.method == method and {*v.params} <= {"rank"}]
        ranks = {v.name: v.params.get("rank", 1) for v in cut}
        points = sorted((1 - rank, average[name]) for name, rank in ranks.items() if not is_tuned(rank))
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), **style(method).line_options(), label=str(printed(method)))
    if "average" in average:
        axes.axhline(average["average"], color=MUTED, linestyle=(0, (1, 1.4)), label="Model averaging")
    axes.set_xlabel("share of ranks dropped")
    axes.set_ylabel("mean test score (%)")
    axes.grid(axis="y")
    legend_above(figure, axes)
    figure.facts = dict(table.facts)
    return figure
