"""Learned coefficients by depth.

The coefficient of each task's vector at each layer, as learned for the merge of {largest} tasks, by layer
number; on the left (o) are weights outside any layer: embeddings and the last norm. Thick: the mean over
tasks.
"""

import re
from collections.abc import Mapping
from math import ceil
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from remerge.config import Config
from remerge.exhibits._lines import columns_of, set_title
from remerge.report.figure import Figure
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.style import INK, series

READS = ("merges",)
Coefficients = dict[str, dict[str, float]]
"""By task and layer."""


def applies(config: Config) -> bool:
    """Whether a coefficient is learned for each layer."""
    return any(config.params(v).get("level") == "layer" for v in config.makers(max(config.sizes)))


def build(run: Run) -> Figure:
    """One panel per variant."""
    found = {v.label: lam for v in run.variants if (lam := coefficients(run, v.name))}
    across = min(len(found), 2)
    down = ceil(len(found) / across)
    labels = [*map(task_label, run.tasks), "mean"]
    columns = min(columns_of(labels, 2.7 * across), 2 * across)
    below = 0.75 + 0.17 * ceil(len(labels) / columns)
    width, height = (2.7 * across if across > 1 else 3.6), 1.95 * down + below + 0.1
    figure = Figure(width, height)
    panels = figure.panels(len(found), across, sharey=True)
    figure.subplots_adjust(left=0.55 / width, right=1 - 0.1 / width, wspace=0.08, hspace=0.5)
    figure.subplots_adjust(top=1 - 0.28 / height, bottom=below / height)
    for axes, (label, lam) in zip(panels.flat, found.items(), strict=False):
        set_title(axes, label)
        _panel(axes, run, lam)
    for axes in panels[:, 0]:
        axes.set_ylabel("coefficient")
    handles = {task_label(task): Line2D([], [], **_thin(place)) for place, task in enumerate(run.tasks)}
    handles["mean"] = Line2D([], [], color=INK, linewidth=2.2)
    figure.legend(
        [*handles.values()], [*handles], loc="lower center", ncols=columns, fontsize=7.5, frameon=False
    )
    return figure


def coefficients(run: Run, variant: str) -> Coefficients:
    """Means over the largest merges with the task and over seeds; empty if none has layers."""
    values: dict[str, dict[str, list[float]]] = {}
    for merge in run.merges(variant, run.sizes[-1]):
        for task, layers in merge.coefficients.items():
            for layer, value in layers.items() if isinstance(layers, dict) else ():
                values.setdefault(task, {}).setdefault(layer, []).append(value)
    return {task: {layer: fmean(some) for layer, some in layers.items()} for task, layers in values.items()}


def stacks(layers: list[str]) -> list[list[str]]:
    """Groups of consecutive layers, an encoder's apart from a decoder's; tensors in no layer come first."""
    found: dict[str, list[str]] = {"": []}
    for layer in layers:
        number = re.search(r"\d+$", layer)
        found.setdefault(layer[: number.start()] if number else "", []).append(layer)
    return [sorted(some, key=_number) for some in found.values() if some]


def mark_layers(axes: Axes, layers: list[list[str]]) -> None:
    """Number the layers along the axis, at most 14 of them."""
    names = [str(_number(layer)) if _number(layer) >= 0 else "o" for stack in layers for layer in stack]
    every = ceil(len(names) / 14)
    axes.set_xticks(range(0, len(names), every), names[::every])
    axes.set_xlabel("layer")


def _panel(axes: Axes, run: Run, lam: Mapping[str, Mapping[str, float]]) -> None:
    at, layers = 0, stacks(list(next(iter(lam.values()))))
    for stack in layers:
        along = range(at, at + len(stack))
        for place, task in enumerate(run.tasks):
            if task in lam:
                axes.plot(along, [lam[task][layer] for layer in stack], **_thin(place))
        means = [fmean(layers[layer] for layers in lam.values()) for layer in stack]
        marker: dict[str, Any] = (
            {"marker": "_", "markersize": 13, "markeredgewidth": 2.2} if len(stack) == 1 else {}
        )
        axes.plot(along, means, color=INK, linewidth=2.2, zorder=4, **marker)
        at += len(stack)
    mark_layers(axes, layers)
    axes.grid(axis="y")


def _thin(place: int) -> dict[str, Any]:
    return series(place).line_options() | {"linewidth": 0.8, "markersize": 4, "markeredgewidth": 0.8}


def _number(layer: str) -> int:
    number = re.search(r"\d+$", layer)
    return int(number.group()) if number else -1
