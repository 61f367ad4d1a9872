"""Task arithmetic: the weighted sum of task vectors."""

from collections.abc import Sequence

from remerge.deltas import Combined, Deltas
from remerge.methods import Recipe, Scales, method, per_expert


def recipe(experts: Sequence[str], *, scale: Scales) -> Recipe:
    """mergekit's task arithmetic."""
    return Recipe("task_arithmetic", per_expert(scale, experts, "task_arithmetic: scale"))


@method(
    label="Task arithmetic",
    citation="Ilharco et al., 2023, arXiv:2212.04089; DivMerge, Eq. 3",
    mergekit=recipe,
)
def task_arithmetic(deltas: Deltas, *, scale: Scales = 0.4) -> Combined:
    """theta_0 + sum_t lam_t tau_t.

    Args:
        deltas: the task vectors tau_t.
        scale: lam, one for all experts, one for each, or by their names.

    Cost: one pass over the T·d weights.
    """
    return deltas.combine(per_expert(scale, deltas.experts, "task_arithmetic: scale"))
