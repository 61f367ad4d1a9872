"""Task arithmetic with separate coefficients for each layer."""

from collections.abc import Mapping, Sequence

from remerge.deltas import Deltas, Merged, layer_of
from remerge.errors import UserError
from remerge.methods import Recipe, Scales, method, per_expert


def recipe(experts: Sequence[str], *, scale: Mapping[str, Scales]) -> Recipe:
    """mergekit's task arithmetic: it takes the first weight whose filter is part of a tensor's name."""
    lam = {layer: per_expert(own, experts, f"layerwise: scale: {layer}") for layer, own in scale.items()}
    rest = lam.pop("other", [0.0] * len(experts))
    return Recipe(
        "task_arithmetic",
        [
            [*({"filter": f"{layer}.", "value": own[t]} for layer, own in lam.items()), {"value": rest[t]}]
            for t in range(len(experts))
        ],
    )


@method(
    label="Layer-wise task arithmetic",
    citation="Yang et al., 2024, arXiv:2310.02575; DivMerge, Eq. 3 (LL)",
    mergekit=recipe,
)
def layerwise(deltas: Deltas, *, scale: Mapping[str, Scales]) -> Merged:
    """theta_0^l + sum_t lam_t^l tau_t^l with given coefficients, such as a learned method found.

    Args:
        deltas: the task vectors tau_t.
        scale: lam_t^l: for each layer l (``model.layers.3``, ``other``), one for all experts, one for
            each, or by their names.

    Raises:
        UserError: a layer without coefficients, or coefficients of a layer that the model does not have or
            no expert changes.

    Cost: one pass over the T·d weights.
    """
    layers, of_model = dict.fromkeys(map(layer_of, deltas)), set(map(layer_of, deltas.model))
    for layer in layers.keys() ^ scale.keys():
        idle = "is changed by no expert" if layer in of_model else "is not a layer of the model"
        lacks = "has no coefficients" if layer in layers else idle
        raise UserError(f"layerwise: scale: {layer} {lacks}: name the layers {', '.join(layers)}")
    lam = {at: per_expert(scale[at], deltas.experts, f"layerwise: scale: {at}") for at in layers}
    return deltas.combine({name: lam[layer_of(name)] for name in deltas})
