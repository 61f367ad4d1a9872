"""An analogy of tasks.

Test score on D of θ₀ + λ (τ_C + τ_B − τ_A) against λ, without any training example of D: A ({a}) is to B
({b}) as C ({c}) is to D ({d}). Horizontal lines: the unmerged base, the expert of C, and the expert of D
itself. Ring: the λ chosen on validation scores of D.
"""

from remerge.config import Config
from remerge.exhibits.general.analogy import analogy
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether one is made at some scale."""
    from remerge.exhibits._scaled import scaled

    return bool(scaled(config, "analogy"))


def build(run: Run) -> Figure:
    """One line per method."""
    return analogy(run)
