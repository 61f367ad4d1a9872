"""A search in a grid that is too large to try in full: each point is proposed from the earlier results."""

from collections.abc import Sequence
from math import prod

import optuna

from remerge.variants import population_of


class Search:
    """Optuna's TPE or CMA-ES over indices in lists of values.

    They are the tree-structured Parzen estimator (Bergstra et al., 2011), and CMA-ES with margin (Hamano et
    al., 2022), by which Akiba et al. (2025) search for merges.

    The same merits lead to the same points: an interrupted search continues when its results are
    told to it again.

    Args:
        kind: ``tpe`` or ``cma``.
        sizes: the number of values of each tuned parameter, in the order of the grid.
        seed: the seed of its draws.
    """

    def __init__(self, kind: str, sizes: Sequence[int], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(direction="maximize", sampler=_sampler(kind, sizes, seed))
        self._sizes = sizes

    def ask(self) -> tuple[optuna.Trial, int]:
        """The next trial, and the index of its point in the grid, which may have been tried before."""
        trial = self._study.ask()
        places = [trial.suggest_int(str(k), 0, size - 1) for k, size in enumerate(self._sizes)]
        return trial, sum(place * prod(self._sizes[k + 1 :]) for k, place in enumerate(places))

    def tell(self, trial: optuna.Trial, merit: float | None) -> None:
        """Record the merit that a trial reached; None if it diverged."""
        if merit is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, merit)


def _sampler(kind: str, sizes: Sequence[int], seed: int) -> optuna.samplers.BaseSampler:
    if kind == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    from remerge import evolution  # imports cmaes, which takes as long as all of Optuna

    return evolution.sampler(seed, population_of(sum(size > 1 for size in sizes)))
