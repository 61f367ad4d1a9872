"""CMA-ES whose points are the same on every machine."""

import warnings
from typing import Any

import numpy as np
import optuna
from cmaes import CMA


def sampler(seed: int, population: int) -> optuna.samplers.BaseSampler:
    """Optuna's CMA-ES with margin: it goes on trying neighbours, however small its steps have become.

    Args:
        seed: the seed of its draws.
        population: the number of trials from which it learns at a time.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _Sampler(seed=seed, popsize=population, with_margin=True)


class _Sampler(optuna.samplers.CmaEsSampler):
    def _init_optimizer(self, *given: Any) -> Any:
        optimizer: Any = super()._init_optimizer(*given)
        optimizer._cma.__class__ = _Symmetric
        return optimizer


class _Symmetric(CMA):  # type: ignore[misc]
    """Draws through the symmetric root of the covariance, which is the same by any basis of eigenvectors.

    Many eigenvalues are equal in the first generations. Which basis LAPACK makes then depends on the
    processor and on the number of threads, and cmaes draws through that.
    """

    def _sample_solution(self) -> np.ndarray:
        basis, roots = self._eigen_decomposition()
        drawn = (basis * roots) @ basis.T @ self._rng.randn(self._n_dim)
        return np.asarray(self._mean + self._sigma * drawn)
