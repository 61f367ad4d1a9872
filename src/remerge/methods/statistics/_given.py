"""The statistics given to a method, checked against the experts."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from remerge.deltas import Deltas, State
from remerge.errors import UserError


def given(
    method: str, deltas: Deltas, statistics: Mapping[str, State], shape: Callable[[Tensor], torch.Size]
) -> dict[str, list[Tensor] | None]:
    """The statistics of every tensor in the order of the experts, or None if no expert has any.

    Args:
        method: the method's name.
        deltas: the experts.
        statistics: for each expert, tensors by the names of weights.
        shape: the shape that the statistics of a weight must have.

    Raises:
        UserError: an expert or one of its tensors lacks statistics that others have, or they do not fit.
    """
    for expert in deltas.experts:
        if expert not in statistics:
            raise UserError(f"{method}: no statistics of expert {expert}: compute them first")
    rows: dict[str, list[Tensor] | None] = {}
    for name, theta in deltas.base.items():
        having = {e: statistics[e][name] for e in deltas.experts if name in statistics[e]}
        for expert in deltas.experts:
            if having and expert not in having:
                raise UserError(f"{method}: expert {expert} has no statistics of {name}: compute them again")
        for expert, values in having.items():
            if values.shape != shape(theta):
                raise UserError(
                    f"{method}: expert {expert}: statistics of {name} are {list(values.shape)}, "
                    f"not {list(shape(theta))}: compute them for this method and model"
                )
            if not bool(torch.isfinite(values.sum())):
                raise UserError(
                    f"{method}: expert {expert}: statistics of {name} contain NaN or infinity: "
                    "compute them again"
                )
        rows[name] = list(having.values()) if having else None
    return rows
