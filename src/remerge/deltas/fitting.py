"""Whether an expert's tensors are changes of the base's."""

from collections.abc import Mapping

import torch
from torch import Tensor

from remerge.deltas.tensors import LowRank, Value, dtype_name
from remerge.errors import UserError


def must_fit(expert: str, name: str, state: Mapping[str, Value], theta_0: Tensor, tied: str | None) -> None:
    """Refuse an expert's tensor that is no change of the base's.

    Args:
        expert: the expert's name.
        name: the tensor's.
        state: the expert's tensors.
        theta_0: the base's tensor.
        tied: the name of another tensor that the base ties it to.

    Raises:
        UserError: it is missing, or has another shape, or a dtype too narrow for the base's, or differs from
            the tensor that it is tied to.
    """
    if name not in state:
        if tied is None:
            raise UserError(f"expert {expert}: tensor {name} is missing: give an expert of this base")
        return
    theta = state[name]
    if theta.shape != theta_0.shape:
        raise UserError(
            f"expert {expert}: {name} is {list(theta.shape)}, the base's {list(theta_0.shape)}: "
            "give an expert of this base, with its vocabulary"
        )
    if tied is not None and tied in state and not _same(theta, state[tied]):
        raise UserError(
            f"expert {expert}: {name} differs from {tied}, to which the base ties it: give an untied base"
        )
    if isinstance(theta, LowRank):
        return
    for whose, dtype in (("base", theta_0.dtype), (f"expert {expert}", theta.dtype)):
        if dtype.is_floating_point and dtype.itemsize == 1:
            raise UserError(
                f"{whose}: {name} is {dtype_name(dtype)}, quantised: give the model that it was made from"
            )
    if torch.promote_types(theta.dtype, theta_0.dtype) != theta.dtype:
        own, base = dtype_name(theta.dtype), dtype_name(theta_0.dtype)
        raise UserError(f"expert {expert}: {name} is {own}, the base's {base}: load both in one dtype")


def _same(theta: Value, other: Value) -> bool:
    """Whether two values of an expert are one: the same memory, or equal."""
    if isinstance(theta, LowRank) and isinstance(other, LowRank):
        return theta.scaling == other.scaling and _same(theta.B, other.B) and _same(theta.A, other.A)
    if isinstance(theta, LowRank) or isinstance(other, LowRank):
        return False
    return theta.data_ptr() == other.data_ptr() or torch.equal(theta, other)
