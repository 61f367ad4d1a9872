"""ANP while the coefficients are trained.

ANP of pairs on the test splits by the number of optimiser steps, with one coefficient per task (TL, left) or
per task and layer (LL, right). Lines with markers: means over {pairs}; thin lines: each pair
under DivMerge JS. {uneven}
"""

import numpy as np
from matplotlib.lines import Line2D

from remerge.config import Config
from remerge.exhibits.divmerge._courses import courses
from remerge.exhibits.divmerge._method import own
from remerge.report.figure import Figure
from remerge.report.labels import every, printed
from remerge.report.run import Run
from remerge.report.style import Style, style

READS = ("merges",)
LEVELS = {"task": "TL", "layer": "LL"}
UNEVEN = "Pairs have different numbers of steps: in the means, those that have ended keep their last ANP."


def applies(config: Config) -> bool:
    """Whether pairs are scored on the way, under a learned method as it is."""
    from remerge.report.labels import printed

    learned = filter(config.is_learned, config.makers(2))
    plain = any(not printed(variant.name, config.params(variant)).notes for variant in learned)
    return bool(config.evaluation.watch) and plain


def build(run: Run) -> Figure:
    """One panel per level, one line per learned method."""
    figure = Figure(5.4, 3.2)
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.1, right=0.985, top=0.91, bottom=0.3, wspace=0.06)
    looks: dict[str, Style] = {}
    uneven = ""
    for axes, (level, short) in zip(panels, LEVELS.items(), strict=True):
        for variant in filter(run.config.is_learned, run.config.makers(2)):
            name = printed(variant.name, variant.params)
            if name.level != short or name.notes:
                continue
            look = looks.setdefault(name.objective, style(variant.name, variant.params))
            found = [course for _, course in courses(run, variant.name)]
            if variant.name == own(run.variants, level):
                for course in found:
                    axes.plot(course.scored, course.anp, color=look.colour, linewidth=0.5, alpha=0.5)
            steps = sorted({step for course in found for step in course.scored})
            means = np.mean([np.interp(steps, course.scored, course.anp) for course in found], axis=0)
            axes.plot(steps, means, **style(variant.name, variant.params).line_options())
            uneven = UNEVEN if any(course.scored != steps for course in found) else uneven
        axes.set_title(f"{short}: one coefficient per task" + (" and layer" if short == "LL" else ""))
        axes.set_xlabel("training steps")
        axes.grid(axis="y")
    panels[0].set_ylabel("ANP (%)")
    handles = [
        Line2D([], [], **{**look.line_options(), "markerfacecolor": look.colour}) for look in looks.values()
    ]
    figure.legend(handles, [*looks], loc="lower center", ncols=len(looks), frameon=False, fontsize=8.5)
    figure.facts = {"pairs": every(len(run.config.subsets(2)), "pair"), "uneven": uneven}
    return figure
