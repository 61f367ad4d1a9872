"""WUDI-Merging: the delta that interferes least with every task's own, found without data."""

from typing import Annotated

import torch
from torch import Tensor

from remerge.deltas import Deltas, Merged, Value
from remerge.methods import Range, method
from remerge.methods.decomposition._basis import averaged, linear_weights


@method(label="WUDI-Merging", citation="Cheng et al., 2025, arXiv:2503.08099")
def wudi(
    deltas: Deltas,
    *,
    steps: Annotated[int, Range(0)] = 300,
    learning_rate: Annotated[float, Range(0, 1, open="(")] = 1e-5,
) -> Merged:
    """theta_0 + the ΔW that minimises sum_t ‖(ΔW − ΔW_t) ΔW_t^T‖² / ‖ΔW_t‖², by Adam from sum_t ΔW_t.

    The rows of ΔW_t stand for the inputs of its layer, which they approximately span. A task that leaves a
    matrix at theta_0 has no part in its sum. All tensors but linear layers' weights: theta_0 + the mean of
    the tau_t.

    Args:
        deltas: the task vectors; those of linear layers are the ΔW_t.
        steps: the number of Adam's steps; none leaves sum_t ΔW_t.
        learning_rate: about the most that an entry changes in a step.

    Cost: for each matrix n × m, ``steps`` products with a matrix m × m.
    """
    linear = set(linear_weights(deltas))
    mean = averaged(deltas)

    def merge(name: str) -> Value:
        if name not in linear:
            return mean(name)
        return least_interference(deltas[name], steps, learning_rate)

    return deltas.tensorwise(merge)


def least_interference(stack: Tensor, steps: int, learning_rate: float) -> Tensor:
    """ΔW ``[n, m]`` of the deltas ``[T, n, m]``.

    Its gradient is 2 (ΔW C − sum_t ΔW_t C_t), with C_t = ΔW_t^T ΔW_t / ‖ΔW_t‖² and C their sum, so that a
    step takes one product however many tasks there are.
    """
    m = stack.shape[-1]
    C, target = stack.new_zeros(m, m), torch.zeros_like(stack[0])
    for delta in stack:
        C_t = delta.T @ delta
        C_t /= C_t.trace().clamp_min(torch.finfo(C_t.dtype).tiny)
        C += C_t
        target += delta @ C_t
    merged = stack.sum(dim=0)
    adam = torch.optim.Adam([merged], lr=learning_rate)
    for _ in range(steps):
        merged.grad = (merged @ C).sub_(target).mul_(2)
        adam.step()
    return merged.detach()
