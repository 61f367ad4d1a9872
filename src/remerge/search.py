"""A search in a grid that is too large to try in full: each point is proposed from the earlier results."""

from collections.abc import Sequence
from math import prod

import optuna


class Search:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011) over indices in lists of values.

    The same merits lead to the same points: an interrupted search continues when its results are
    told to it again.

    Args:
        sizes: the number of values of each tuned parameter, in the order of the grid.
        seed: the seed of its draws.
    """

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
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
