"""The points of a grid that is too large to try whole: each proposed by what the ones before it reached."""

from collections.abc import Sequence
from math import prod

import optuna


class Search:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011) over places of values in their lists.

    The same merits lead it along the same points: a search that was cut short goes on when what it knows is
    told to it again.

    Args:
        sizes: how many values each tuned parameter has, in the order of the grid.
        seed: of its draws.
    """

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._sizes = sizes

    def ask(self) -> tuple[optuna.Trial, int]:
        """The next trial, and the place of its point in the grid; it may have been tried before."""
        trial = self._study.ask()
        places = [trial.suggest_int(str(k), 0, size - 1) for k, size in enumerate(self._sizes)]
        return trial, sum(place * prod(self._sizes[k + 1 :]) for k, place in enumerate(places))

    def tell(self, trial: optuna.Trial, merit: float | None) -> None:
        """Record the merit that a trial reached; None if it diverged."""
        if merit is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, merit)
