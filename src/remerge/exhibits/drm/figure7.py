"""Sensitivity to density and scale.

Mean ANP on validation splits (merges: {subsets}) against the density, the share of entries kept, for three
scales λ. The points are those of the grids from which the tuned methods are chosen. The paper's figure shows
accuracies.
"""

from remerge.config import Config
from remerge.exhibits._lines import legend_above
from remerge.exhibits.drm._rows import TUNED
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import style

READS = ("selection",)
SCALES = (0.8, 1.0, 1.2)
"""Those of the paper."""


def applies(config: Config) -> bool:
    """Whether density and scale are tuned together, over the paper's scales."""
    grids = [config.grid(variant) for variant in config.merge.variants]
    together = [grid for grid in grids if {*grid.point(0)} == {"density", "scale"}]
    # In lists, since a scale for each expert has no hash.
    tried = [[p["scale"] for p in grid.sample if isinstance(p["density"], int | float)] for grid in together]
    return any(all(scale in scales for scale in (0.8, 1.0, 1.2)) for scales in tried)


def build(run: Run) -> Figure:
    """One panel per scale, one line per method."""
    figure = Figure(4.4, 2.5)
    panels = figure.subplots(1, len(SCALES), sharex=True, sharey=True)
    for variant, record in run.selections():
        together = [point for point in record.grid if {*point.params} == {"density", "scale"}]
        # A density for each expert is no place on the axis.
        found = [point for point in together if isinstance(point.params["density"], int | float)]
        if record.plan != "subsets" or not found:
            continue
        figure.facts["subsets"] = ", ".join(record.subsets)
        for axes, scale in zip(panels, SCALES, strict=True):
            points = sorted((p.params["density"], p.mean) for p in found if p.params["scale"] == scale)
            label = variant.label.removesuffix(TUNED)
            axes.plot(
                *zip(*points, strict=True),
                **style(variant.method).line_options() | {"markersize": 5},
                label=label,
            )
    for axes, scale in zip(panels, SCALES, strict=True):
        axes.set_title(f"λ = {scale:g}")
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlim(0, 1.06)
        axes.grid(axis="y")
    panels[1].set_xlabel("density")
    panels[0].set_ylabel("validation ANP (%)")
    legend_above(figure, panels[0])
    return figure
