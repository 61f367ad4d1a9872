"""The mean of the experts."""

from remerge.deltas import Deltas, Merged, State
from remerge.methods import method


@method(citation="Wortsman et al., 2022, arXiv:2203.05482")
def average(base: State, deltas: Deltas) -> Merged:
    """theta_0 + (1/T) sum_t tau_t, the mean of the experts.

    Cost: one pass over the T·d weights.
    """
    return deltas.tensorwise(lambda tau: tau.mean(dim=0))
