"""The merges of one group against the scale of the merged vector: one curve per method."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from remerge.exhibits._scaled import scaled
from remerge.records import Merge, Score
from remerge.report.labels import printed
from remerge.report.run import Run
from remerge.report.style import INK, Style, style
from remerge.variants import is_tuned

RING: dict[str, Any] = {
    "marker": "o",
    "linestyle": "",
    "markersize": 10.5,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.1,
}
"""The ring around the scale chosen on validation scores."""


@dataclass(frozen=True)
class Curve:
    """The merges of a group by the variants of a method that differ only in scale.

    Attributes:
        label: the method's name in figures.
        look: its style.
        merges: by scale, in ascending order.
        chosen: the scale chosen on validation scores, if a variant is tuned.
    """

    label: str
    look: Style
    merges: dict[float, list[Merge]]
    chosen: float | None

    def scores(self, case: str) -> dict[float, dict[str, float]]:
        """The scores of one merge by scale and task, in %, averaged over seeds."""
        return {
            scale: _mean([merge for merge in merges if merge.case == case])
            for scale, merges in self.merges.items()
        }


def curves(run: Run, group: int | str) -> list[Curve]:
    """A curve for each method that has a scale."""
    found: dict[str, dict[float, list[Merge]]] = {}
    chosen: dict[str, float] = {}
    for variant in scaled(run.config, group):
        given = run.config.params(variant)
        merges = run.merges(variant.name, group)
        scale = merges[0].params.get("scale") if merges else None
        if isinstance(scale, int | float):
            found.setdefault(variant.method, {})[float(scale)] = merges
            if is_tuned(given.get("scale")):
                chosen[variant.method] = float(scale)
    return [
        Curve(str(printed(method)), style(method), dict(sorted(merges.items())), chosen.get(method))
        for method, merges in found.items()
    ]


def draw(axes: Axes, values: dict[float, float], look: Style, chosen: float | None) -> None:
    """A line of values against the scale, with a ring around the chosen one."""
    options: dict[str, Any] = look.line_options() | {"markersize": 4.5}
    axes.plot(*zip(*sorted(values.items()), strict=True), **options, zorder=3)
    if chosen is not None:
        axes.plot([chosen], [values[chosen]], **RING, zorder=4)


def mean_score(scores: Mapping[str, Score]) -> float:
    """The mean over tasks, in %."""
    return 100 * fmean(score.value for score in scores.values())


def _mean(merges: list[Merge]) -> dict[str, float]:
    scores = [merge.scores | merge.others for merge in merges]
    return {task: 100 * fmean(some[task].value for some in scores) for task in scores[0]}
