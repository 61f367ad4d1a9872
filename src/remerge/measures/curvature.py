"""Statistics of an expert for fisher and regmean: computed once from a model and its inputs.

Both run the model with ``logits(model, batch) -> [N, V]``, for the N answer positions of a batch,
and return tensors by the names of the weights, float32 on the CPU.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from remerge.errors import UserError
from remerge.passes import every_row_learns

Logits = Callable[[nn.Module, Any], Tensor]
"""The model's logits at the answer positions of a batch, ``[N, V]``."""


def fisher(
    model: nn.Module,
    examples: Iterable[Any],
    logits: Logits,
    *,
    labels: Literal["sampled", "weighted"] = "sampled",
    seed: int = 0,
) -> dict[str, Tensor]:
    """The diagonal Fisher information: the mean over inputs of E_y (d log pi(y|x) / d theta)², y from the
    model.

    Labels at different positions are independent, so a sequence's information is the sum of its positions'.

    Args:
        model: the expert.
        examples: batches of one input each.
        logits: how the model is run.
        labels: ``sampled`` draws one label for each position, with one backward pass per input; ``weighted``
            sums over all labels by their probability, with V passes per position, for classifiers.
        seed: the seed of the drawn labels.

    Returns:
        For each parameter, a tensor of its shape.

    Raises:
        UserError: there are no examples.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    count = 0
    was_training = model.training
    model.eval()
    for example in examples:
        with every_row_learns(model):
            log_pi = logits(model, example).float().log_softmax(dim=-1)
        pi = log_pi.detach().exp()
        if labels == "sampled":
            y = torch.multinomial(pi.cpu(), 1, generator=generator).to(pi.device)
            parts = [(log_pi.gather(1, y).sum(), 1.0)]
        else:
            parts = [(log_p, float(p)) for log_p, p in zip(log_pi.flatten(), pi.flatten(), strict=True)]
        for at, (log_likelihood, weight) in enumerate(parts):
            gradients = torch.autograd.grad(
                log_likelihood, list(parameters.values()), retain_graph=at + 1 < len(parts), allow_unused=True
            )
            for squares, gradient in zip(total.values(), gradients, strict=True):
                if gradient is not None:
                    squares.addcmul_(gradient.float(), gradient.float(), value=weight)
        count += 1
    model.train(was_training)
    if not count:
        raise UserError("statistics: no examples: give some inputs of the expert's task")
    return {name: squares.div_(count).cpu() for name, squares in total.items()}


def grams(model: nn.Module, examples: Iterable[Any], logits: Logits) -> dict[str, Tensor]:
    """The Gram matrices G = X^T X of every linear layer's inputs.

    A head that is tied to the embedding has no matrix, since an embedding is not a linear layer. A
    frozen layer, such as a task's own head, has none either, since it is not merged.

    Args:
        model: the expert.
        examples: batches of one input each, so that no layer reads padding.
        logits: how the model is run; the result is not used.

    Returns:
        For the weight of each linear layer, by its first name, a matrix ``[m, m]``: zero where no input went,
        as in experts of a mixture that were never chosen.

    Raises:
        UserError: there are no examples, or the architecture has no linear layer, or GPT-2's in their place.
    """
    layers = _linear_layers(model)
    # Their matrices are transposed. An output head of its own would be the only layer that is not averaged.
    if not layers or any(isinstance(module, Conv1D) for module in model.modules()):
        what = type(model).__name__
        raise UserError(f"statistics: {what} is not made of nn.Linear, as regmean needs: leave it out")
    sums: dict[str, Tensor] = {}

    def add(name: str, rows: Tensor) -> None:
        sums[name] = torch.addmm(sums[name], rows.T, rows) if name in sums else rows.T @ rows

    _each_input(model, examples, logits, add)
    if not sums:
        raise UserError("statistics: no inputs reached a linear layer: give some inputs of the expert's task")
    widths = {name: layer.in_features for name, layer in layers}
    return {name: sums[name].cpu() if name in sums else torch.zeros(m, m) for name, m in widths.items()}


def scatters(model: nn.Module, examples: Iterable[Any], logits: Logits) -> dict[str, Tensor]:
    """S = (X - mean)^T (X - mean) of the inputs of `grams`, float64 ``[m, m]`` on the model's device."""
    moments: dict[str, Tensor] = {}

    def add(name: str, rows: Tensor) -> None:
        # With a 1 appended to each input, the last row of the Gram matrix contains their sum and number.
        wide = torch.nn.functional.pad(rows.double(), (0, 1), value=1.0)
        moments[name] = torch.addmm(moments[name], wide.T, wide) if name in moments else wide.T @ wide

    _each_input(model, examples, logits, add)
    return {name: M[:-1, :-1] - M[:-1, -1:] @ M[-1:, :-1] / M[-1, -1] for name, M in moments.items()}


def _each_input(
    model: nn.Module, examples: Iterable[Any], logits: Logits, take: Callable[[str, Tensor], None]
) -> None:
    """Pass on the inputs of every linear layer, float32 ``[N, m]``, example by example; see `grams`."""

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        take(name, inputs[0].detach().flatten(0, -2).float())

    hooks = [layer.register_forward_pre_hook(partial(record, name)) for name, layer in _linear_layers(model)]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for example in examples:
                logits(model, example)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)


def _linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The linear layers that are merged and tied to no embedding, with the first names of their weights."""
    names = {id(p): name for name, p in model.named_parameters()}
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
    return [(names[id(m.weight)], m) for m in linear if id(m.weight) not in embeddings]
