"""Forgetting by negation.

Test scores of θ₀ − λ τ, as a share of the base's own score, against λ. Each panel shows one task whose vector
τ is subtracted. Line with markers: the task itself (lower is better); grey: the mean and the range of its
controls; dashed: {kept}% of the base's score. {choice}
"""

from math import ceil, nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from remerge.config import Config
from remerge.exhibits._lines import set_title
from remerge.exhibits._scales import RING, Curve, curves, draw
from remerge.plans import Case
from remerge.plans.negation import KEPT
from remerge.report.figure import Figure
from remerge.report.labels import task_label
from remerge.report.run import Run
from remerge.report.style import INK, MUTED
from remerge.report.table import number

READS = ("scores", "merges")
BAND, LIMIT = "#cfd6dd", (0, (4, 2))


def applies(config: Config) -> bool:
    """Whether vectors are subtracted at some scale; the slides have the figure under their own name."""
    from remerge.exhibits._scaled import scaled

    return config.paper != "slides" and bool(scaled(config, "negation"))


def build(run: Run) -> Figure:
    """One panel per task to forget."""
    return negation(run)


def negation(run: Run) -> Figure:
    """Target and controls against λ, of the method of which most scales are there."""
    cases = run.config.cases("negation")["negation"]
    curve = max(curves(run, "negation"), key=lambda curve: len(curve.merges))
    across = min(len(cases), 3)
    down = ceil(len(cases) / across)
    width, height = 1.6 * across + 0.65, 1.7 * down + 0.95
    figure = Figure(width, height)
    panels = figure.panels(len(cases), across, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.55 / width, right=1 - 0.1 / width, wspace=0.1, hspace=0.35)
    figure.subplots_adjust(top=1 - 0.25 / height, bottom=0.85 / height)
    for axes, case in zip(panels.flat, cases, strict=False):
        _panel(axes, run, curve, case)
    for axes in panels.flat[len(cases) - across : len(cases)]:
        axes.tick_params(labelbottom=True)
    panels[0, 0].set_ylim(bottom=-5)
    for axes in panels[:, 0]:
        axes.set_ylabel("% of the base")
    figure.supxlabel("λ", y=0.38 / height, fontsize=9)
    handles = {
        "the task itself": Line2D([], [], **curve.look.line_options()),
        "controls": Patch(color=BAND),
        "their mean": Line2D([], [], color=MUTED),
        f"{100 * KEPT:.0f}%": Line2D([], [], color=INK, linewidth=0.9, linestyle=LIMIT),
    }
    handles |= {"chosen": Line2D([], [], **RING)} if curve.chosen is not None else {}
    figure.legend(
        [*handles.values()], [*handles], loc="lower center", ncols=len(handles), fontsize=7.5, frameon=False
    )
    figure.facts = {"kept": f"{100 * KEPT:.0f}", "choice": _choice(run, curve, cases)}
    return figure


def _panel(axes: Axes, run: Run, curve: Curve, case: Case) -> None:
    target = case.tasks[0]
    controls = [_shares(run, curve, case, task) for task in case.judged if task != target]
    set_title(axes, f"− {task_label(target)}")
    axes.grid(axis="y")
    axes.axhline(100 * KEPT, color=INK, linewidth=0.9, linestyle=LIMIT, zorder=2)
    if controls:
        table = np.array([[*shares.values()] for shares in controls])
        scales = [*controls[0]]
        axes.fill_between(scales, table.min(axis=0), table.max(axis=0), color=BAND, linewidth=0)
        axes.plot(scales, table.mean(axis=0), color=MUTED, linewidth=1.2)
    draw(axes, _shares(run, curve, case, target), curve.look, curve.chosen)


def _shares(run: Run, curve: Curve, case: Case, task: str) -> dict[float, float]:
    """The score on a task by scale, in % of the base's; the base itself is at 0."""
    base = run.scores("base")[task].value or nan
    shares = {scale: scores[task] / base for scale, scores in curve.scores(case.name).items()}
    return dict(sorted(({0.0: 100.0} | shares).items()))


def _choice(run: Run, curve: Curve, cases: list[Case]) -> str:
    """The effect of the chosen λ, averaged over the tasks to forget."""
    if curve.chosen is None:
        return ""
    base = {task: 100 * score.value for task, score in run.scores("base").items()}
    pairs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    held = 0
    for case in cases:
        after = curve.scores(case.name)[curve.chosen]
        held += all(after[task] >= KEPT * base[task] for task in case.judged if task not in case.tasks)
        for task in case.judged:
            pairs[task in case.tasks].append((base[task], after[task]))
    target, control = (
        " to ".join(f"{number(float(np.mean(column)), 1)}%" for column in zip(*pairs[which], strict=True))
        for which in (True, False)
    )
    return (
        f"Ringed: λ = {curve.chosen:g}, chosen on validation scores to forget most while every control keeps "
        f"{100 * KEPT:.0f}%, or to come nearest to that: on test, every control keeps it for {held} of the "
        f"{len(cases)} tasks. On average, the tasks go from {target}, the controls from {control}."
    )
