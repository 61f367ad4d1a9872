"""The merge methods: one file each, found by its name, registered by a decorator.

A method takes the experts' weight deltas and returns merged deltas, tensor by tensor (``@method``), or it is
an objective by which coefficients are learned (``@objective``). Its keyword-only arguments are its
parameters: their names, types, defaults and ranges are read from the signature, and from nowhere else.
"""

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from remerge.deltas import Deltas, State, Value, merge_state, without_tf32
from remerge.errors import UserError
from remerge.methods._contained import contained as contained
from remerge.methods._contained import repeatable as repeatable
from remerge.methods._learning import Learning as Learning
from remerge.methods._method import Method as Method
from remerge.methods._method import Needs as Needs
from remerge.methods._method import Recipe as Recipe
from remerge.methods._method import find as find
from remerge.methods._method import method as method
from remerge.methods._method import methods as methods
from remerge.methods._method import objective as objective
from remerge.methods._method import prepare as prepare
from remerge.methods._parameters import Factors as Factors
from remerge.methods._parameters import Parameter as Parameter
from remerge.methods._parameters import Range as Range
from remerge.methods._parameters import Scale as Scale
from remerge.methods._parameters import Scales as Scales
from remerge.methods._parameters import Scope as Scope
from remerge.methods._parameters import Share as Share
from remerge.methods._parameters import Shares as Shares
from remerge.methods._parameters import Weights as Weights
from remerge.methods._parameters import normalised as normalised
from remerge.methods._parameters import per_expert as per_expert


@torch.no_grad()
@without_tf32()
def merge(
    name: str,
    base: State,
    experts: Sequence[Mapping[str, Value]] | Mapping[str, Mapping[str, Value]],
    *,
    statistics: Mapping[str, State] | Sequence[State] | None = None,
    **params: Any,
) -> dict[str, Tensor]:
    """Merge experts of one base.

    Args:
        name: a method of `remerge.methods()`.
        base: the base's tensors by name; parameters give tensors without gradients.
        experts: the experts' tensors, each with the base's names, shapes and dtypes; a `LowRank` in a
            tensor's place is its delta.
        statistics: for methods that need them, each expert's tensors from `remerge.measures.curvature`.
        params: the method's parameters.

    Returns:
        The merged model's tensors, in the names, order and dtypes of the base.

    Raises:
        UserError: unknown method or parameter, a value out of range, or experts that do not fit.
    """
    chosen = find(name)
    settings = chosen.settings(params)
    if chosen.learned:
        raise UserError(f"method {name} learns from inputs: give it a model and inputs (remerge.learn)")
    if chosen.needs.statistics:
        settings["statistics"] = _named(statistics if statistics is not None else {})
    deltas = Deltas(base, _named(experts))
    with contained(name, deltas, settings.get("statistics")):
        return merge_state(base, chosen.merge(deltas, settings))


def _named(values: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    return dict(values) if isinstance(values, Mapping) else {str(i): v for i, v in enumerate(values)}


class _Catalogue(ModuleType):
    """This module, callable: ``remerge.methods()`` is the catalogue, ``remerge.methods`` its folder."""

    __call__ = staticmethod(methods)


sys.modules[__name__].__class__ = _Catalogue
