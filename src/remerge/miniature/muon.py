"""Muon in float32, batched over matrices of the same shape.

`torch.optim.Muon` orthogonalises in bfloat16, one matrix at a time. On a CPU, with such a small model, this
takes four times as long as the rest of a step.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

MOMENTUM, WEIGHT_DECAY = 0.95, 0.01
_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic of Jordan et al. (2024)


class Muon:
    """Momentum, then steps along the nearest orthogonal matrix of each weight's momentum."""

    def __init__(self, weights: Iterable[Tensor], learning_rate: float) -> None:
        shapes: defaultdict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for weight in weights:
            shapes[tuple(sorted(weight.shape))].append(weight)
        self.groups = list(shapes.values())
        self.buffers = [torch.zeros(len(group), *shape) for shape, group in shapes.items()]
        self.learning_rate = learning_rate

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """Take one step with `scale` times the learning rate."""
        rate = scale * self.learning_rate
        for group, buffer in zip(self.groups, self.buffers, strict=True):
            gradients = torch.stack([_wide(_gradient(weight)) for weight in group])
            buffer.lerp_(gradients, 1 - MOMENTUM)
            updates = orthogonalise(gradients.lerp(buffer, MOMENTUM))
            length = rate * 0.2 * max(group[0].shape) ** 0.5  # an update as long as AdamW's
            for weight, update in zip(group, updates, strict=True):
                turned = update if weight.shape[0] <= weight.shape[1] else update.T
                weight.mul_(1 - rate * WEIGHT_DECAY).add_(turned, alpha=-length)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of wide matrices close to one, by five Newton–Schulz iterations."""
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = _A * x + torch.baddbmm(_B * gram, gram, gram, alpha=_C) @ x
    return x


def _gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:
        raise ValueError("Muon needs a gradient for each of its weights")
    return weight.grad


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
