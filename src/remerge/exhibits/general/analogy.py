"""An analogy of tasks.

Test score on D of θ₀ + λ (τ_C + τ_B − τ_A) against λ, without any training example of D: A ({a}) is to B
({b}) as C ({c}) is to D ({d}). Horizontal lines: the unmerged base, the expert of C, and the expert of D
itself. Ring: the λ chosen on validation scores of D.
"""

from remerge.config import Config
from remerge.exhibits._lines import label_ends
from remerge.exhibits._scales import curves, draw
from remerge.report.figure import Figure
from remerge.report.labels import MODELS, task_label
from remerge.report.run import Run
from remerge.report.style import INK, MUTED, Style, style

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether one is made at some scale; the slides have the figure under their own name."""
    from remerge.exhibits._scaled import scaled

    return config.paper != "slides" and bool(scaled(config, "analogy"))


def build(run: Run) -> Figure:
    """One line per method."""
    return analogy(run)


def analogy(run: Run) -> Figure:
    """The score on D by scale, and what A, B and C have nothing to do with."""
    (case,) = run.config.cases("analogy")["analogy"]
    c, b, a = case.signs
    (d,) = case.judged
    figure = Figure(5.4, 3.4)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.105, right=0.645, top=0.96, bottom=0.14)
    base = 100 * run.scores("base")[d].value
    ends: list[tuple[float, str, Style]] = []
    for curve in curves(run, "analogy"):
        values = {0.0: base} | {scale: scores[d] for scale, scores in curve.scores(case.name).items()}
        draw(axes, values, curve.look, curve.chosen)
        ends.append((values[max(values)], curve.label, curve.look))
    for label, value, look in (
        (MODELS["base"], base, style("base")),
        (
            "Expert of C",
            100 * run.scores(c)[d].value,
            Style(MUTED, "", "-", True),
        ),
        ("Expert of D", 100 * run.own[d].value, Style(INK, "", (0, (4, 2)), True)),
    ):
        axes.axhline(value, color=look.colour, linestyle=look.line, linewidth=1.1, zorder=2)
        ends.append((value, label, look))
    axes.set_xlabel("λ")
    axes.set_ylabel(f"score on {task_label(d)} (%)")
    axes.grid(axis="y")
    axes.margins(x=0.03)
    label_ends(axes, axes.dataLim.x1, ends)
    figure.facts = {name: task_label(task) for name, task in zip("abcd", (a, b, c, d), strict=True)}
    return figure
