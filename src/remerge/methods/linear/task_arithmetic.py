"""Task arithmetic: the weighted sum of task vectors."""

from collections.abc import Sequence

from remerge.deltas import Deltas, Merged, State
from remerge.methods import Scale, method, per_expert


@method(citation="Ilharco et al., 2023, arXiv:2212.04089; DivMerge, Eq. 3", preparation=lambda deltas: deltas)
def task_arithmetic(base: State, deltas: Deltas, *, scale: Scale | Sequence[Scale] = 0.4) -> Merged:
    """theta_0 + sum_t lam_t tau_t.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        scale: lam, one for all experts or one for each.

    Cost: one pass over the T·d weights.
    """
    return deltas.combine(per_expert(scale, len(deltas.experts), "task_arithmetic: scale"))
