"""Learned coefficients: the one optimisation loop of AdaMerging and DivMerge (DivMerge, Algorithm 1).

The merged model is theta_0 + sum_t lam_t tau_t, with one lam for each expert (task level) or for each
expert and layer (layer level); `remerge.step` gives its loss and the gradient of lam.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import torch
from torch import Tensor, nn

from remerge.amounts import POINTS
from remerge.blend import Blend
from remerge.deltas import State
from remerge.errors import Diverged
from remerge.families import Family
from remerge.measures.references import Reference
from remerge.measures.words import Parts
from remerge.step import Objective, Step
from remerge.tau import Tau, Weights


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        lam: the coefficients, float32 ``[T, layers]``, or ``[T, 1]`` at task level.
        layers: the layers' names, in the order of the columns.
        trace: the loss at every step, in nats, summed over tasks.
        course: the coefficients after some of the steps, at most `POINTS`, by the number of steps: those at 0
            are the initial ones, the last are ``lam``.
        seconds: the time it took.
    """

    lam: Tensor
    layers: list[str]
    trace: list[float]
    course: dict[int, Tensor]
    seconds: float

    def by_name(self, experts: Sequence[str]) -> dict[str, float | dict[str, float]]:
        """The coefficients by the names of experts, and of layers if there are several."""
        return self._named(experts, self.lam.tolist())

    def course_by_name(self, experts: Sequence[str]) -> dict[str, list[float] | dict[str, list[float]]]:
        """The coefficients of `course`, by the same names, to four decimals."""
        kept = torch.stack([*self.course.values()], dim=-1).cpu()
        return self._named(experts, [[[round(v, 4) for v in way] for way in row] for row in kept.tolist()])

    def _named(self, experts: Sequence[str], rows: list[list[Any]]) -> dict[str, Any]:
        if self.lam.shape[1] == 1:
            return {expert: row[0] for expert, row in zip(experts, rows, strict=True)}
        return {e: dict(zip(self.layers, row, strict=True)) for e, row in zip(experts, rows, strict=True)}


def fit(
    family: Family,
    model: nn.Module,
    base: State,
    tau: Mapping[str, Tau],
    references: Sequence[Reference],
    objective: Objective,
    *,
    level: str,
    learning_rate: float,
    initial: float,
    epochs: int,
    batch_size: int,
    seed: int,
    answer: str = "mean",
) -> Fit:
    """Learn coefficients by Adam on ``sum_t mean_x answer_positions objective``; ``model`` becomes the merge.

    Args:
        family: the model's family, which runs it.
        model: a module of the family; overwritten with the merged weights.
        base: theta_0 by name.
        tau: the task vectors by name.
        references: the inputs and answers of each expert, in the order of the stack, on the model's device.
        objective: the loss at each position.
        level: ``task`` or ``layer``.
        learning_rate: the learning rate of Adam.
        initial: the initial value of every coefficient.
        epochs: the number of passes over the inputs.
        batch_size: the number of inputs of each task in a step.
        seed: the seed of the inputs' order.
        answer: ``mean`` or ``sum``, over the positions of an answer.

    Raises:
        Diverged: a loss or a coefficient is not finite. This is checked only at the end, since a check at
            every step would make a GPU wait.
    """
    started = time.perf_counter()
    device = next(model.parameters()).device
    blend = Blend(model, base, tau)
    step = Step(family, model, blend, objective, answer)
    width = 1 if level == "task" else len(blend.layers)
    lam = torch.full((len(references), width), float(initial), device=device)
    adam = torch.optim.Adam([lam], lr=learning_rate)
    orders = torch.Generator().manual_seed(seed)
    losses: list[Tensor] = []
    shortest = min(len(reference.examples) for reference in references)
    kept, course = evenly(epochs * ceil(shortest / batch_size), POINTS), {}
    for _ in range(epochs):
        shuffled = [torch.randperm(len(r.examples), generator=orders).tolist() for r in references]
        for start in range(0, shortest, batch_size):
            chosen = [
                (reference, order[start : min(start + batch_size, shortest)])
                for reference, order in zip(references, shuffled, strict=True)
            ]
            if len(losses) in kept:
                course[len(losses)] = lam.clone()
            loss, gradient = step(lam, chosen)
            lam.grad = gradient if level == "layer" else gradient.sum(dim=1, keepdim=True)
            adam.step()
            losses.append(loss)
    course[len(losses)] = lam
    trace = torch.stack(losses).tolist()
    _must_be_numbers(trace, lam, learning_rate)
    blend.write(lam)
    return Fit(lam.cpu(), blend.layers, trace, course, time.perf_counter() - started)


def parts(module: State, base: State, tau: Mapping[str, Tau], t: int, name: str) -> Parts:
    """An expert's own tensor, as parts that are already in memory for learning and are not added up.

    Args:
        module: the tensors that no expert changes.
        base: theta_0 for the other tensors.
        tau: the experts' own task vectors, neither prepared nor rounded.
        t: the expert's index in the stack.
        name: the name of the tensor.
    """
    vectors = tau.get(name)
    if vectors is None:
        return module[name], None
    return (vectors.theta[t], None) if isinstance(vectors, Weights) else (base[name], vectors[t])


def _must_be_numbers(trace: list[float], lam: Tensor, learning_rate: float) -> None:
    step = next((step for step, loss in enumerate(trace, 1) if not isfinite(loss)), None)
    if step is None and not bool(lam.isfinite().all()):
        step = len(trace)
    if step is not None:
        raise Diverged(
            f"coefficients diverge: step {step} of {len(trace)}, the loss is {trace[step - 1]}: "
            f"give a learning_rate below {learning_rate:g}, or another initial"
        )


def evenly(last: int, count: int) -> list[int]:
    """At most ``count`` whole numbers from 0 to ``last``, including both, as evenly spaced as possible.

    ``count`` is at least 2.
    """
    return sorted({round(last * k / (count - 1)) for k in range(count)})
