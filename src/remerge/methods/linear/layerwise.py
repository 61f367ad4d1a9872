"""Task arithmetic with coefficients of each layer's own."""

from collections.abc import Mapping

from remerge.deltas import Deltas, Merged, State, layer_of
from remerge.errors import UserError
from remerge.methods import Scales, method, per_expert


@method(citation="Yang et al., 2024, arXiv:2310.02575; DivMerge, Eq. 3 (LL)")
def layerwise(base: State, deltas: Deltas, *, scale: Mapping[str, Scales]) -> Merged:
    """theta_0^l + sum_t lam_t^l tau_t^l, coefficients given, as a learned method found them.

    Args:
        base: theta_0.
        deltas: the task vectors tau_t.
        scale: lam_t^l, for each layer l (``model.layers.3``, ``other``) one for all experts, one for
            each, or by their names.

    Raises:
        UserError: a layer without coefficients, or coefficients of a layer that the model does not have.

    Cost: one pass over the T·d weights.
    """
    layers = dict.fromkeys(map(layer_of, deltas))
    for layer in layers.keys() ^ scale.keys():
        lacks = "has no coefficients" if layer in layers else "is not a layer of the model"
        raise UserError(f"layerwise: scale: {layer} {lacks}; its layers: {', '.join(layers)}")
    lam = {at: per_expert(scale[at], deltas.experts, f"layerwise: scale: {at}") for at in layers}
    return deltas.combine({name: lam[layer_of(name)] for name in deltas})
