"""AdaMerging: coefficients that make the merged model confident in its answers."""

from torch import Tensor

from remerge.measures.divergence import mean_under
from remerge.methods import objective


@objective(label="AdaMerging", citation="Yang et al., 2024, arXiv:2310.02575", epochs=5)
def adamerging(expert: Tensor, merged: Tensor) -> Tensor:
    """H(pi_merged(·|x)), the Shannon entropy of the first predicted token, in nats.

    AdaMerging++ is this over ``ties@aggregate=sum``: the entries of trimmed vectors that have the elected
    sign.

    Args:
        expert: unused: the method has no reference.
        merged: log-probabilities of the merged model, ``[N, V]``.

    Returns:
        The entropy at each position, ``[N]``.
    """
    return -mean_under(merged, merged)
