"""LiNeS: coefficients that grow linearly with a layer's depth."""

from collections import defaultdict
from collections.abc import Iterable

import torch

from remerge.deltas import Combined, Deltas, layer_of
from remerge.methods import Scale, method, prepare

HEADS = {"classification_head", "classifier", "head", "score"}
"""Parts of a model whose numbered layers, such as those of an MLP, are none of its depth."""


@method(label="LiNeS", citation="Wang et al., 2025, arXiv:2410.17146")
def lines(deltas: Deltas, *, over: str = "none", alpha: Scale | None = None, beta: Scale = 0.5) -> Combined:
    """theta_0^l + (alpha + beta (l − 1) / (L − 1)) · sum_t tau'_t^l, l the layer's number of L.

    Shallow layers, whose features serve all tasks, stay nearer to theta_0. The tau'_t are the task vectors,
    or what another method prepares of them. Tensors outside of layers take alpha, as do a head's and those of
    a layer that is the only one. An encoder's and a decoder's layers are counted separately, which the paper
    leaves open.

    Args:
        deltas: the task vectors tau_t.
        over: the method that prepares them, with its parameters, such as ``ties@density=0.1``.
        alpha: the first layer's coefficient; if not given, ‖sum_t tau_t‖₁ / ‖sum_t tau'_t‖₁ / T, which is 1/T
            where nothing is prepared.
        beta: what the last layer's coefficient has more; the paper chooses it on validation scores.

    Cost: one pass over the T·d weights; of prepared vectors two more, if alpha is not given.
    """
    prepared = prepare(over, deltas)
    if alpha is None:
        # Vectors of length 0 are the same with any coefficient.
        grown = 1.0 if prepared is deltas else length(deltas) / (length(prepared) or 1.0)
        alpha = grown / len(deltas.experts)
    lam = {layer: alpha + beta * share for layer, share in depths(deltas.model).items()}
    return prepared.combine({name: [lam[layer_of(name)]] * len(deltas.experts) for name in deltas})


def length(deltas: Deltas) -> float:
    """The sum of the magnitudes of sum_t tau_t."""
    pieces = (tau for name in deltas for _, tau in deltas.pieces(name))
    return float(sum(tau.sum(dim=0).abs_().sum(dtype=torch.float64) for tau in pieces))


def depths(names: Iterable[str]) -> dict[str, float]:
    """(l − 1) / (L − 1) of every layer of these tensors; 0 for ``other`` and the layers of a head."""
    found, stacks = {"other": 0.0}, defaultdict(list)
    for layer in {layer_of(name) for name in names} - {"other"}:
        stack, _, number = layer.rpartition(".")
        if HEADS.isdisjoint(stack.split(".")):
            stacks[stack].append((int(number), layer))
        else:
            found[layer] = 0.0
    for layers in stacks.values():
        last = max(len(layers) - 1, 1)
        found |= {layer: above / last for above, (_, layer) in enumerate(sorted(layers))}
    return found
