"""Pairs as labelled points in the plane of their two coefficients."""

from collections.abc import Sequence
from itertools import product

from matplotlib.axes import Axes

from remerge.exhibits.divmerge._courses import courses
from remerge.exhibits.divmerge._method import own
from remerge.report.figure import Figure
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.style import GRID, INK, MUTED, style

Box = tuple[float, float, float, float]
Point = tuple[float, float]
SIZE = 7
"""Of the letters of names, in points."""
SIDES = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)]


def plane(run: Run) -> Figure:
    """Plot λ₁ to the right and λ₂ upwards, with tasks in the configuration's order."""
    name = own(run.variants, "task") or ""
    figure = Figure(4.6, 4.4)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.98, top=0.98, bottom=0.1)
    points: list[Point] = []
    labels: list[str] = []
    starts: set[Point] = set()
    for merge, course in courses(run, name):
        first, second = sorted(merge.tasks, key=run.tasks.index)
        found = [course.coefficients[task] for task in (first, second)]
        (start, *_, x), (_, *_, y) = found
        points.append((float(x), float(y)))
        labels.append(f"{task_label(first)} + {task_label(second)}")
        starts.add((float(start), float(start)))
    axes.plot(*zip(*sorted(starts), strict=True), "+", color=MUTED, markersize=9, markeredgewidth=1.4)
    look = style(name)
    axes.plot(*zip(*points, strict=True), **{**look.line_options(), "linestyle": ""}, zorder=3)
    axes.axline((0.5, 0.5), slope=1, color=GRID, linewidth=0.8, zorder=0)
    axes.margins(0.16, 0.1)
    axes.set_xlabel("λ₁, of the task named first")
    axes.set_ylabel("λ₂, of the task named second")
    axes.grid()
    name_points(axes, points, labels, sorted(starts))
    return figure


def name_points(
    axes: Axes, points: Sequence[Point], names: Sequence[str], marks: Sequence[Point] = ()
) -> None:
    """Write a name beside each point, on the side and at the distance where it covers the least.

    ``marks`` are points without names, which should not be covered either.
    """
    axes.autoscale_view()  # otherwise the limits are set only when the figure is drawn
    dots = axes.transData.transform([*points, *marks])
    inch = axes.figure.dpi
    taken: list[Box] = [(x - 0.06 * inch, y - 0.06 * inch, x + 0.06 * inch, y + 0.06 * inch) for x, y in dots]
    frame = axes.get_window_extent()
    for point, (x, y), name in zip(points, dots[: len(points)], names, strict=True):
        wide, high = 0.6 * SIZE / 72 * inch * len(name), 1.2 * SIZE / 72 * inch
        boxes: list[tuple[float, Box, Point]] = []
        for distance, (right, up) in product((0.1, 0.2, 0.32, 0.46), SIDES):
            cx = x + right * (distance * inch + wide / 2)
            cy = y + up * (distance * inch + high / 2)
            box = (cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2)
            outside = max(frame.x0 - box[0], box[2] - frame.x1, frame.y0 - box[1], box[3] - frame.y1, 0)
            boxes.append((sum(_common(box, b) for b in taken) + 2 * outside * wide + distance, box, (cx, cy)))
        _, box, (cx, cy) = min(boxes)
        taken.append(box)
        at = axes.transData.inverted().transform((cx, cy))
        axes.annotate(
            name,
            point,
            (float(at[0]), float(at[1])),
            ha="center",
            va="center",
            fontsize=SIZE,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )


def _common(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)
