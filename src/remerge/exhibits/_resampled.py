"""The methods of a run, and the bootstrap that compares them with each other and with unmerged models."""

import numpy as np

from remerge.analysis.resampling import DIGITS, Array, Difference, Outcomes, Resampled
from remerge.report.recorded import Variant
from remerge.report.run import Run


class Comparison:
    """All methods that merge subsets, resampled together with the configuration's seed.

    Attributes:
        variants: the methods.
        models: their names and, on request, those of the unmerged models: the references of the run,
            and ``expert``, which is the best expert of each subset on all its tasks.
        best: the method with the highest mean ANP among those that make all merges.
    """

    def __init__(self, run: Run, draws: int, unmerged: bool = False) -> None:
        self.variants = [v for v in run.variants if any(run.merges(v.name, size) for size in run.sizes)]
        outcomes = _outcomes(run, self.variants)
        self.models = [variant.name for variant in self.variants]
        if unmerged:
            outcomes = _with_unmerged(run, outcomes)
            self.models += [*run.references, "expert"]
        self._resampled = Resampled(outcomes, run.config.seed, draws)
        means = self._resampled.anp[: len(self.variants)].mean(axis=1).round(DIGITS)
        self.best = self.variants[int(np.nanargmax(means))]

    def mean(self, model: str) -> float:
        """The mean ANP over all merges; NaN for a method that does not make all of them."""
        return float(self._resampled.anp[self.models.index(model)].mean())

    def lead(self, first: str, second: str, *sizes: int) -> Difference:
        """The lead of one model over another in the merges that both have, of all or of the given sizes."""
        places = self.models.index(first), self.models.index(second)
        return self._resampled.difference(*places, sizes or None)


def _with_unmerged(run: Run, outcomes: Outcomes) -> Outcomes:
    """The outcomes, with unmerged models added to the methods as if they were merges of each subset."""
    models = [*run.references, *run.tasks]
    answered = {m: {t: run.unmerged_outcomes(m, t).astype(np.float32) for t in run.tasks} for m in models}
    share = run.accuracy / [run.own[task].value or np.nan for task in run.tasks]
    merged: dict[str, Array] = {}
    for task, known in outcomes.merged.items():
        holding = [list(subset) for subset in outcomes.subsets if task in subset]
        experts = [share.loc[subset, subset].mean(axis="columns").idxmax() for subset in holding]
        rows = [[answered[model][task]] * len(holding) for model in run.references]
        rows.append([answered[str(expert)][task] for expert in experts])
        # The shape is explicit, since a task in no subset has no rows.
        merged[task] = np.concatenate([known, np.array(rows).reshape(len(rows), *known.shape[1:])])
    return Outcomes(outcomes.subsets, outcomes.own, merged)


def _outcomes(run: Run, variants: list[Variant]) -> Outcomes:
    """Each merge's outcomes, averaged over its seeds."""
    subsets = [subset for size in run.sizes for subset in run.config.subsets(size)]
    holding = {task: [subset for subset in subsets if task in subset] for task in run.tasks}
    own = {task: run.unmerged_outcomes(task, task).astype(np.float32) for task in run.tasks}
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
