"""MetaGPT: task arithmetic with coefficients in closed form."""

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged
from remerge.methods import method


@method(label="MetaGPT", citation="Zhou et al., 2024, arXiv:2406.11385")
def metagpt(deltas: Deltas) -> Merged:
    """theta_0 + sum_t lam_t tau_t, lam_t = ‖tau_t‖² / sum_s ‖tau_s‖², norms over the whole model.

    The lam_t sum to 1. They minimise the paper's bound on the mean loss of the tasks, where the model is
    linear around theta_0 and the tau_t are orthogonal.

    Args:
        deltas: the task vectors tau_t.

    Cost: two passes over the T·d weights; of LoRA experts the first takes only their factors.
    """
    squares = torch.stack([squared_norms(deltas, name) for name in deltas]).sum(dim=0)
    # With vectors of length 0, any coefficients leave theta_0.
    return deltas.combine((squares / (float(squares.sum()) or 1.0)).tolist())


def squared_norms(deltas: Deltas, name: str) -> Tensor:
    """‖tau_t‖² of each expert in one tensor, float64 ``[T]``.

    Raises:
        UserError: it has NaN or infinity.
    """
    factors = deltas.factors(name)
    if factors is None:
        pieces = (torch.linalg.vector_norm(tau, dim=1, dtype=torch.float64) for _, tau in deltas.pieces(name))
        squares = sum((norm.square().cpu() for norm in pieces), torch.zeros(len(deltas.experts)).double())
    else:
        # ‖B A‖² is the inner product of BᵀB and A Aᵀ.
        wide = [(f.scaling * f.B.double(), f.A.double()) for f in factors]
        squares = torch.stack([((B.T @ B) * (A @ A.T)).sum().cpu() for B, A in wide])
    if not bool(torch.isfinite(squares).all()):
        raise deltas.blame(name)
    return squares
