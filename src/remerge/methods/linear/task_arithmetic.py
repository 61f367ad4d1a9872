"""Task arithmetic: the weighted sum of task vectors."""

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Scales, method, per_expert


@method(citation="Ilharco et al., 2023, arXiv:2212.04089; DivMerge, Eq. 3", preparation=lambda deltas: deltas)
def task_arithmetic(base: State, deltas: Deltas, *, scale: Scales = 0.4) -> Merged:
    """theta_0 + sum_t lam_t tau_t.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        scale: lam, one for all experts, one for each, or by their names.

    Cost: one pass over the T·d weights.
    """
    return deltas.combine(per_expert(scale, deltas.experts, "task_arithmetic: scale"))
