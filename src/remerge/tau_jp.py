"""Fine-tuning that keeps a task vector's effect on other tasks small (Yoshida et al., 2025, tau-Jp)."""

from collections.abc import Sequence
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
    """The weighted tau-Jp on inputs that every step draws again, the same number from each other task.

    Args:
        family: the linearised family.
        others: the other tasks' examples; their answers are not used.
        weight: lambda, 0.1 in the paper.
        inputs: the number of inputs of each task, at most all that it has.
        seed: the seed of the draws of a step, which otherwise depend only on its number.
    """

    def __init__(
        self, family: Linearised, others: Sequence[Sequence[Example]], weight: float, inputs: int, seed: int
    ) -> None:
        self.family, self.others, self.weight, self.inputs = family, others, weight, inputs
        self.seed = seed

    def __call__(self, model: nn.Module, step: int) -> Tensor:
        """The penalty of the model at a step."""
        rng = Random(f"tau_jp {self.seed} {step}")
        drawn = [e for some in self.others for e in rng.sample(some, min(self.inputs, len(some)))]
        batch = self.family.collate(drawn, next(model.parameters()).device)
        return self.weight * tau_jp(self.family, model, batch)
