"""DivMerge: coefficients that bring the merged model close to each expert on the expert's inputs."""

from typing import Literal

from torch import Tensor

from remerge.measures.divergence import DIVERGENCES
from remerge.methods import Needs, objective


@objective(
    label="DivMerge",
    citation="Touayouch et al., 2025, DivMerge, Eq. 4, arXiv:2509.02108",
    needs=Needs(answers=True),
    epochs=4,
)
def divmerge(
    expert: Tensor, merged: Tensor, *, divergence: Literal["kl", "reverse_kl", "js"] = "js"
) -> Tensor:
    """D(pi_theta_t(·|x) ‖ pi_merged(·|x)) along the expert's own greedy answer, in nats.

    Args:
        expert: log-probabilities of the expert, the reference, ``[N, V]``.
        merged: log-probabilities of the merged model, ``[N, V]``.
        divergence: KL with the expert first, KL with the merged model first, or Jensen-Shannon.

    Returns:
        The divergence at each position, ``[N]``.
    """
    return DIVERGENCES[divergence](expert, merged)
