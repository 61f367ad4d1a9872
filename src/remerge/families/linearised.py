"""Models evaluated as their first-order expansion at the base's weights (Ortiz-Jimenez et al., 2023)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from remerge.checkpoints.models import state_of
from remerge.checkpoints.stored import LINEARISED
from remerge.deltas import State
from remerge.families import Batch, Example, Family, FixedHeads, most_likely


def expansion(family: FixedHeads, model: nn.Module, theta_0: State, batch: Batch) -> tuple[Tensor, Tensor]:
    """f(theta_0) and J(theta_0) (theta - theta_0), the parts of f's first-order expansion, ``[B, d]`` each.

    Args:
        family: the family whose ``outputs`` is f.
        model: the module whose parameters are theta; gradients flow to them.
        theta_0: the point of expansion, by the parameters' names.
        batch: the inputs.
    """
    asked = _Asked(family, model)
    tau = {name: theta - theta_0[name] for name, theta in model.named_parameters()}

    def f(theta: State) -> Tensor:
        outputs: Tensor = functional_call(asked, {f"model.{n}": t for n, t in theta.items()}, (batch,))
        return outputs

    # The fused kernels of attention have no forward derivative.
    with sdpa_kernel(SDPBackend.MATH):
        expanded: Any = jvp(f, ({name: theta_0[name] for name in tau},), (tau,))
    value, derivative = expanded
    return value, derivative


class Linearised:
    """A family whose models are f(theta_0) + J(theta_0) (theta - theta_0), with the same heads.

    In such a model, the same weights define a different function than in an ordinary one, so they are saved
    under a name that nothing else reads. Whatever is not defined here is the family's own.

    Args:
        inner: the family.
        theta_0: the base's weights, float32.
        base: the base's fingerprint.
    """

    def __init__(self, inner: FixedHeads, theta_0: State, base: str) -> None:
        self.inner, self.theta_0, self.base = inner, theta_0, base

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits of each input from its own task's head, float32 ``[N, V]``."""
        return self.inner.read(model, batch, self.outputs(model, batch))

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """f(theta_0) + J(theta_0) (theta - theta_0), ``[B, d]``."""
        value, derivative = expansion(self.inner, model, self.theta_0, batch)
        return value + derivative

    def greedy(
        self, model: nn.Module, examples: Sequence[Example], longest: int | None = None
    ) -> list[list[int]]:
        """Each input's most likely class."""
        whole: Any = self
        return most_likely(whole, model, examples)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the weights, and the fingerprint of the base at which the model is expanded."""
        tensors = {name: tensor.contiguous() for name, tensor in state_of(model).items()}
        save_file(tensors, folder / LINEARISED, metadata={"base": self.base})


def at_the_base(family: Family) -> Family:
    """The family that runs the base itself, layer by layer: there, an expansion is the model."""
    return family.inner if isinstance(family, Linearised) else family


class _Asked(nn.Module):
    """A model and its family's ``outputs`` as one module, as `functional_call` requires."""

    def __init__(self, family: FixedHeads, model: nn.Module) -> None:
        super().__init__()
        self.family, self.model = family, model

    def forward(self, batch: Batch) -> Tensor:
        return self.family.outputs(self.model, batch)
