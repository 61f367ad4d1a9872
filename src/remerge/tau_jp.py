"""What one task's vector does to other tasks' inputs, kept small (Yoshida et al., 2025, tau-Jp)."""

from collections.abc import Iterator, Sequence
from random import Random

from torch import Tensor, nn

from remerge.families import Batch, Example
from remerge.families.linearised import Linearised, expansion


def tau_jp(family: Linearised, model: nn.Module, batch: Batch) -> Tensor:
    """The mean over inputs x of || J_{theta_0} f(x) (theta - theta_0) ||_2; gradients flow to theta."""
    _, derivative = expansion(family.inner, model, family.theta_0, batch)
    norms: Tensor = derivative.norm(dim=-1)
    return norms.mean()


class Penalty:
    """The weighted tau-Jp on fresh inputs at every call, as many of each other task.

    Args:
        family: the linearised family.
        others: the other tasks' examples; their answers are not used.
        weight: lambda, 0.1 in the paper.
        inputs: of each task.
        seed: of their order.
    """

    def __init__(
        self, family: Linearised, others: Sequence[Sequence[Example]], weight: float, inputs: int, seed: int
    ) -> None:
        self.family, self.weight, self.inputs = family, weight, inputs
        self._streams = [_endless(some, Random(f"tau_jp {seed} {k}")) for k, some in enumerate(others)]

    def __call__(self, model: nn.Module) -> Tensor:
        """Of the model as it is now."""
        drawn = [next(stream) for stream in self._streams for _ in range(self.inputs)]
        batch = self.family.collate(drawn, next(model.parameters()).device)
        return self.weight * tau_jp(self.family, model, batch)


def _endless(examples: Sequence[Example], rng: Random) -> Iterator[Example]:
    """All examples in an order drawn anew each time round."""
    while True:
        yield from rng.sample(examples, len(examples))
