"""ANP when inputs only approximate those of the task.

Mean ANP on the test splits over {all_smallest} of {smallest} experts, against the share of each
task's inputs that is replaced while coefficients are learned, by the same inputs with their words shuffled or
by inputs of another task of the benchmark. The share bounds the total variation between these inputs and the
task's (DivMerge, Appendix A.3, Proposition 3). Dashed horizontal lines: the methods that use no inputs.
"""

from math import ceil
from typing import Any

from matplotlib.lines import Line2D

from remerge.config import Config
from remerge.exhibits._sweep import across, without
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.report.style import Style

READS = ("scores", "merges")
KINDS = {"shuffled": "words shuffled", "other": "another task's"}
LINES: dict[str, Any] = {"shuffled": (0, (1, 1)), "other": "-"}


def applies(config: Config) -> bool:
    """Whether some variants learn from inputs that replace a task's own."""
    return bool(config.stand_ins)


def build(run: Run) -> Figure:
    """One line per learned method and kind of inputs."""
    size = run.sizes[0]
    looks: dict[str, Style] = {}
    found: dict[tuple[str, str], dict[float, float]] = {}
    for variant in run.variants:
        name, look = without(variant, "replaced", "stand_ins")
        looks.setdefault(name, look)
        merges = run.merges(variant.name, size)
        if not merges:
            continue
        params = merges[0].params
        share = params.get("replaced")
        # The line of each kind begins with the task's own inputs only.
        for kind in [""] if share is None else [params["stand_ins"]] if share else KINDS:
            found.setdefault((name, kind), {})[share or 0.0] = run.mean_anp(variant.name, size)
    lines = {key: values for key, values in found.items() if not key[1] or len(values) > 1}
    legend = 0.25 + 0.17 * ceil(len(lines) / 2)
    height = 2.9 + legend
    figure = Figure(5.4, height)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.1, right=0.985, top=1 - 0.1 / height, bottom=(legend + 0.45) / height)
    handles = []
    for (name, kind), values in lines.items():
        options = looks[name].line_options() | {"linestyle": LINES[kind]} if kind else across(looks[name])
        points = sorted(values.items()) if kind else [(0.0, values[0.0]), (1.0, values[0.0])]
        axes.plot([100 * share for share, _ in points], [anp for _, anp in points], **options)
        handles.append(Line2D([], [], label=f"{name}, {KINDS[kind]}" if kind else name, **options))
    axes.set_xlabel("inputs replaced (%)")
    axes.set_ylabel("mean ANP (%)")
    axes.grid(axis="y")
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False, fontsize=8, handlelength=3)
    return figure
