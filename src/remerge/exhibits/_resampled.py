"""The methods of a run and the bootstrap that compares them."""

import numpy as np

from remerge.analysis.resampling import Difference, Outcomes, Resampled
from remerge.report.run import Run, Variant


class Comparison:
    """All methods that merge subsets, drawn again together by the configuration's seed, so many times.

    Attributes:
        variants: the methods.
        best: of those that make all merges, that of the highest mean ANP.
    """

    def __init__(self, run: Run, draws: int) -> None:
        self.variants = [v for v in run.variants if any(run.merges(v.name, size) for size in run.sizes)]
        self._resampled = Resampled(_outcomes(run, self.variants), run.config.seed, draws)
        self.best = self.variants[int(np.nanargmax(self._resampled.anp.mean(axis=1)))]

    def mean(self, variant: Variant) -> float:
        """The mean ANP over all merges; NaN of a method that does not make all."""
        return float(self._resampled.anp[self.variants.index(variant)].mean())

    def lead(self, first: Variant, second: Variant, *sizes: int) -> Difference:
        """How far one method leads another over the merges that both make, of all sizes or of these."""
        places = self.variants.index(first), self.variants.index(second)
        return self._resampled.difference(*places, sizes or None)


def _outcomes(run: Run, variants: list[Variant]) -> Outcomes:
    """What each merge answered, a mean over its seeds."""
    subsets = [subset for size in run.sizes for subset in run.config.subsets(size)]
    holding = {task: [subset for subset in subsets if task in subset] for task in run.tasks}
    own = {task: run.own_outcomes(task).astype(np.float32) for task in run.tasks}
    merged = {
        task: np.full((len(variants), len(holding[task]), len(own[task])), np.nan, np.float32)
        for task in run.tasks
    }
    for place, variant in enumerate(variants):
        for size in run.sizes:
            seeds: dict[tuple[str, tuple[str, ...]], list[np.ndarray]] = {}
            for merge in run.merges(variant.name, size):
                for task, row in run.outcomes(variant.name, merge).items():
                    seeds.setdefault((task, tuple(sorted(merge.tasks))), []).append(row)
            for (task, subset), rows in seeds.items():
                merged[task][place, holding[task].index(subset)] = np.mean(rows, axis=0)
    return Outcomes(subsets, own, merged)
