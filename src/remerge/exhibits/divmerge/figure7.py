"""Coefficients while they are trained.

λ of a task under DivMerge JS with one coefficient per task, by the number of optimiser steps. Each panel
shows one task, with one line for each other task that it is paired with. Where the lines of a panel coincide,
the coefficient depends on the task itself and not on its partner. (The paper draws the two coefficients of a
pair in two panels.)
"""

from math import ceil

from matplotlib.lines import Line2D

from remerge.config import Config
from remerge.exhibits._lines import columns_of, set_title
from remerge.exhibits.divmerge._courses import courses
from remerge.exhibits.divmerge._method import own
from remerge.report.figure import Figure
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.style import tasks_apart

READS = ("merges",)


def applies(config: Config) -> bool:
    """Whether the paper's method learns one coefficient per task, of pairs."""
    from remerge.exhibits.divmerge._method import own

    return own(config.makers(2), "task") is not None


def build(run: Run) -> Figure:
    """One panel per task, one line per partner."""
    found = courses(run, own(run.variants, "task") or "")
    tasks = [task for task in run.tasks if any(task in merge.tasks for merge, _ in found)]
    looks = tasks_apart(tasks)
    across = 2 if len(tasks) <= 4 else 3
    down = ceil(len(tasks) / across)
    names = [task_label(task) for task in tasks]
    # Lines without markers are shorter than others.
    columns = min(columns_of(names, 5.8), len(names))
    below = 0.8 + 0.15 * ceil(len(names) / columns)
    height = below + 1.5 * down
    figure = Figure(5.4, height)
    panels = figure.panels(len(tasks), across, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.095, right=0.985, top=1 - 0.2 / height, bottom=below / height)
    figure.subplots_adjust(wspace=0.08, hspace=0.25)
    for axes, task in zip(panels.flat, tasks, strict=False):
        for merge, course in found:
            if task in merge.tasks:
                (partner,) = set(merge.tasks) - {task}
                axes.plot(course.steps, course.coefficients[task], **looks[partner])
        set_title(axes, task_label(task))
        axes.grid(axis="y")
    for place, axes in enumerate(panels.flat):
        axes.label_outer()
        axes.tick_params(labelbottom=place + across >= len(tasks))
    figure.supylabel("coefficient λ", fontsize=9, x=0.005)
    figure.supxlabel("training steps", fontsize=9, y=(below - 0.47) / height)
    handles = [Line2D([], [], **looks[task]) for task in tasks]
    figure.legend(
        handles,
        names,
        loc="lower center",
        ncols=columns,
        columnspacing=1.2,
        handlelength=1.9,
        frameon=False,
        fontsize=7.5,
        title="merged with",
        title_fontsize=7.5,
    )
    return figure
