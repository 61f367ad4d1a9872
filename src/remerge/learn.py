"""Learned coefficients: the one optimisation loop of AdaMerging and DivMerge (DivMerge, Algorithm 1).

The merged model is theta_0 + sum_t lam_t tau_t, with one lam for each expert (task level) or for each
expert and layer (layer level). It is written into the module in place; an ordinary backward pass gives
dL/dtheta, and

    dL/dlam_t^l = < dL/dtheta^l , tau_t^l >

so no graph runs through the merge, and nothing as large as the model is allocated. For a low-rank
tau = s B A, the inner product is s < B^T dL/dtheta, A >, so tau is never formed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from remerge.deltas import LowRank, Scratch, State, layer_of, places
from remerge.errors import Diverged
from remerge.families import Family
from remerge.measures.references import Reference, position_weights, side_by_side
from remerge.measures.words import Parts

Objective = Callable[[Tensor, Tensor], Tensor]
"""Maps the log-probabilities of expert and merged model, ``[N, V]`` each, to a loss per position, ``[N]``."""


POINTS = 50
"""The number of points of a fit at which coefficients are kept, including the start and the end."""


@dataclass(frozen=True)
class Weights:
    """The experts' own values of one tensor; its task vectors are these minus theta_0.

    Attributes:
        theta: stacked, ``[T, *shape]``, in half precision: the differences would take twice the memory.
    """

    theta: Tensor


Tau = Tensor | Weights | list[LowRank]
"""The task vectors of one tensor: stacked ``[T, *shape]`` in any float dtype, as `Weights`, or as factors."""


@dataclass(frozen=True)
class Fit:
    """The result of a fit.

    Attributes:
        lam: the coefficients, float32 ``[T, layers]``, or ``[T, 1]`` at task level.
        layers: the layers' names, in the order of the columns.
        trace: the loss at every step, in nats, summed over tasks.
        course: the coefficients after some of the steps, at most `POINTS`, by the number of steps: those at 0
            are the initial ones, the last are ``lam``.
        blend: writes the merge with any coefficients into the module.
        seconds: the time it took.
    """

    lam: Tensor
    layers: list[str]
    trace: list[float]
    course: dict[int, Tensor]
    blend: "Blend"
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


class Blend:
    """A module whose parameters are theta_0 + sum_t lam_t^l tau_t^l, and the gradient of lam.

    Args:
        model: the module; its parameters are overwritten.
        base: theta_0 by name.
        tau: the task vectors by name. Other parameters keep their values and get no gradient.
    """

    def __init__(self, model: nn.Module, base: State, tau: Mapping[str, Tau]) -> None:
        self.base, self.tau = base, tau
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in tau)
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = True  # only the rows that are looked up have a gradient
        self.parameters = {name: p for name, p in model.named_parameters() if name in tau}
        self.lookups = {name: held for name, held in _lookups(model).items() if name in tau}
        self._hooks: list[RemovableHandle] = []
        self.layers = sorted({layer_of(name) for name in tau}, key=_natural)
        first = next(iter(tau.values()))
        self.experts = len(first.theta if isinstance(first, Weights) else first)
        self.column = {name: self.layers.index(layer_of(name)) for name in tau}

    @torch.no_grad()
    def write(self, lam: Tensor) -> None:
        """Write the merged weights for ``lam``, ``[T, layers]`` or ``[T, 1]``, into the module."""
        lam = lam.expand(-1, len(self.layers))
        for name, parameter in self.parameters.items():
            _write(parameter, self.base[name], self.tau[name], lam[:, self.column[name]])

    @torch.no_grad()
    def write_for_step(self, lam: Tensor) -> None:
        """The same for one forward pass and its `gradient`; of embeddings, only rows that are looked up."""
        lam = lam.expand(-1, len(self.layers))
        for name, parameter in self.parameters.items():
            at, held = lam[:, self.column[name]], self.lookups.get(name, [])
            if not held:
                _write(parameter, self.base[name], self.tau[name], at)
            rows = partial(_write_rows, parameter, self.base[name], self.tau[name], at)
            self._hooks += [module.register_forward_pre_hook(rows) for module in held]

    def gradient(self, loss: Tensor) -> Tensor:
        """dL/dlam, float32 ``[T, layers]``; each weight's gradient is freed as soon as it has been used."""
        found = torch.zeros(self.experts, len(self.layers), device=loss.device)

        def collect(name: str, parameter: Tensor) -> None:
            assert parameter.grad is not None, name
            # If an embedding's gradient is dense, rows were used that this step did not look up or write.
            assert parameter.grad.is_sparse or name not in self.lookups, name
            found[:, self.column[name]] += _inner(self.base[name], self.tau[name], parameter.grad)
            parameter.grad = None

        self._hooks += [
            parameter.register_post_accumulate_grad_hook(partial(collect, name))  # type: ignore[no-untyped-call]
            for name, parameter in self.parameters.items()
        ]
        loss.backward()  # type: ignore[no-untyped-call]
        while self._hooks:
            self._hooks.pop().remove()
        return found


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
) -> Fit:
    """Learn coefficients by Adam on ``sum_t mean_x mean_positions objective``; ``model`` becomes the merge.

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

    Raises:
        Diverged: a loss or a coefficient is not finite. This is checked only at the end, since a check at
            every step would make a GPU wait.
    """
    started = time.perf_counter()
    device = next(model.parameters()).device
    blend = Blend(model, base, tau)
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
                (reference, order[start : start + batch_size])
                for reference, order in zip(references, shuffled, strict=True)
            ]
            if len(losses) in kept:
                course[len(losses)] = lam.clone()
            blend.write_for_step(lam)
            batch = family.collate([r.examples[i] for r, some in chosen for i in some], device)
            merged = family.logits(model, batch).log_softmax(dim=-1)
            expert = side_by_side(family, model, chosen, merged.shape[1])
            weight = position_weights(batch.example) * len(references) / batch.size
            loss = (objective(expert, merged) * weight).sum()
            gradient = blend.gradient(loss)
            lam.grad = gradient if level == "layer" else gradient.sum(dim=1, keepdim=True)
            adam.step()
            losses.append(loss.detach())
    course[len(losses)] = lam
    trace = torch.stack(losses).tolist()
    _must_be_numbers(trace, lam, learning_rate)
    blend.write(lam)
    return Fit(lam.cpu(), blend.layers, trace, course, blend, time.perf_counter() - started)


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


def _write(parameter: Tensor, theta_0: Tensor, tau: Tau, lam: Tensor) -> None:
    """Write theta_0 + sum_t lam_t tau_t, summed in float32, into a parameter."""
    if isinstance(tau, list):
        parameter.copy_(_low_rank(theta_0, tau, lam, slice(None)))
        return
    merged = parameter.view(-1)
    for where, base, vectors in _pieces(theta_0, tau, slice(None)):
        merged[where] = torch.addmv(base, vectors.T, lam)


@torch.no_grad()
def _write_rows(
    parameter: Tensor, theta_0: Tensor, tau: Tau, lam: Tensor, module: nn.Module, given: tuple[Tensor]
) -> None:
    """A hook that does the same, for the rows that a module is about to look up."""
    rows: Tensor = torch.unique(given[0])
    if isinstance(tau, list):
        merged = _low_rank(theta_0, tau, lam, rows)
    else:
        merged = torch.cat([base.addmv(v.T, lam) for _, base, v in _pieces(theta_0, tau, rows)])
    parameter[rows] = merged.view(len(rows), -1).to(parameter.dtype)


def _pieces(
    theta_0: Tensor, tau: Tensor | Weights, rows: Tensor | slice
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Pieces of some rows: flat positions, theta_0 at these, ``[n]``, and task vectors, ``[T, n]``, float32.

    The vectors may be in a buffer that is reused.
    """
    base, wide = theta_0[rows].reshape(-1), Scratch()
    held = tau.theta if isinstance(tau, Weights) else tau
    stack = (held if isinstance(rows, slice) else held[:, rows]).flatten(1)
    for where in places(base):
        own, vectors = base[where].float(), stack[:, where]
        if vectors.dtype != torch.float32:
            vectors = wide(vectors).copy_(vectors)
        yield where, own, vectors.sub_(own) if isinstance(tau, Weights) else vectors


def _low_rank(theta_0: Tensor, factors: list[LowRank], lam: Tensor, rows: Tensor | slice) -> Tensor:
    """theta_0 + sum_t lam_t s_t B_t A_t in some rows, float32: one product of the concatenated factors."""
    B = torch.cat([f.B[rows].float() * f.scaling for f in factors], dim=1)
    A = torch.cat([lam_t * f.A.float() for lam_t, f in zip(lam, factors, strict=True)])
    return torch.addmm(theta_0[rows].float(), B, A)


def _lookups(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The input embeddings by name, with the modules that look them up, unless a head is tied to them."""
    table = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    if not isinstance(table, nn.Embedding):
        return {}
    held = [m for m in model.modules() if any(p is table.weight for p in m.parameters(recurse=False))]
    name = next(name for name, parameter in model.named_parameters() if parameter is table.weight)
    return {name: held} if all(isinstance(module, nn.Embedding) for module in held) else {}


def _inner(theta_0: Tensor, tau: Tau, gradient: Tensor) -> Tensor:
    """< tau_t, gradient > for every expert, ``[T]``; for a sparse gradient, over its rows only."""
    rows: Tensor | slice = slice(None)
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        rows, gradient = gradient.indices()[0], gradient.values()
    if not isinstance(tau, list):
        flat = gradient.reshape(-1)
        parts = [vectors @ flat[where].float() for where, _, vectors in _pieces(theta_0, tau, rows)]
        return torch.stack(parts).sum(dim=0)
    gradient = gradient.float()
    products = [((f.B[rows].float().T @ gradient) * f.A.float()).sum() * f.scaling for f in tau]
    return torch.stack(products)


def _natural(layer: str) -> list[tuple[int, str]]:
    """Sort key that puts block 10 after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in layer.split(".")]
