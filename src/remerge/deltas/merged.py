"""Merged weight deltas, and the merged model that they form with the base."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from remerge.deltas.tensors import (
    LowRank,
    Scratch,
    State,
    Value,
    added,
    aliases,
    dtype_name,
    finite,
    places,
    rounded,
)
from remerge.errors import UserError

if TYPE_CHECKING:
    from remerge.deltas.experts import Deltas

Merged = Iterator[tuple[str, Tensor]]
"""A merged weight delta for every name, in the order of the base, float32."""


Entrywise = Callable[[Tensor, str, slice], Tensor]
"""A function of a piece ``[T, n]`` of a tensor, the tensor's name and the piece's flat position in it.

It may overwrite the piece.
"""


TOGETHER = 12
"""Pieces that the operands of a weighted sum fill together: long reads that still fit a CPU's cache."""


class Pieces(Iterator[tuple[str, Tensor]]):
    """Merged deltas that are computed piece by piece: iterate for the deltas, or write the weights."""

    def __init__(self, deltas: "Deltas", merge: Entrywise) -> None:
        self.deltas, self.merge = deltas, merge
        self._iterator = ((name, self.delta(name)) for name in deltas)

    def __next__(self) -> tuple[str, Tensor]:
        return next(self._iterator)

    def write(self, theta: State) -> None:
        """Write theta_0 plus the merged deltas into tensors like the base's."""
        for name in self.deltas:
            self._write(name, theta[name].view(-1))

    def _write(self, name: str, merged: Tensor) -> None:
        """Write theta_0 plus the merged delta into one tensor, flat, adding each piece as it is made."""
        theta_0, check = self.deltas.base[name].reshape(-1), 0.0
        for where, tau in self.deltas.pieces(name):
            delta = self._made(tau, name, where)
            check += float(torch.add(delta, theta_0[where], out=merged[where]).sum())
        self._check(name, merged, check)

    def delta(self, name: str) -> Tensor:
        """The merged delta of one tensor, float32."""
        theta_0 = self.deltas.base[name]
        merged, check = torch.empty(theta_0.numel(), device=theta_0.device), 0.0
        for where, tau in self.deltas.pieces(name):
            merged[where] = self._made(tau, name, where)
            check += float(merged[where].sum())
        self._check(name, merged, check)
        return merged.view(theta_0.shape)

    def _made(self, tau: Tensor, name: str, where: slice) -> Tensor:
        """The merged piece."""
        return must_have(name, self.merge(tau, name, where), tau.shape[1:])

    def _check(self, name: str, merged: Tensor, check: float) -> None:
        """Refuse a tensor that is not finite; ``check`` is its sum, taken while it was in the cache."""
        if not math.isfinite(check) and not finite(merged):
            raise self.deltas.blame(name)


class Tensors(Iterator[tuple[str, Tensor]]):
    """Merged deltas that are computed one tensor at a time, ``[*shape]`` or low-rank."""

    def __init__(self, deltas: "Deltas", merge: Callable[[str], Value]) -> None:
        self.deltas, self.merge = deltas, merge
        self._iterator = ((name, self.delta(name)) for name in deltas)

    def __next__(self) -> tuple[str, Tensor]:
        return next(self._iterator)

    def delta(self, name: str) -> Tensor:
        """The merged delta of one tensor, float32."""
        made = self.merge(name)
        dense = made.dense() if isinstance(made, LowRank) else made
        merged = must_have(name, dense, self.deltas.base[name].shape)
        if not finite(merged):
            raise self.deltas.blame(name)
        return merged

    def low_rank(self, name: str) -> LowRank | None:
        """The merged delta of one tensor as factors, float32; None if it is not low-rank."""
        made = self.merge(name)
        return made if isinstance(made, LowRank) else None


class Combined(Pieces):
    """sum_t lam_t tau_t, with the same coefficients for all tensors or separate ones for each name."""

    def __init__(self, deltas: "Deltas", lam: Sequence[float] | Mapping[str, Sequence[float]]) -> None:
        super().__init__(deltas, self._sum)
        self.lam = {name: _coefficients_of(name, lam, len(deltas.experts)) for name in deltas}
        self._rows, self._total = Scratch(), Scratch()

    def _sum(self, tau: Tensor, name: str, where: slice) -> Tensor:
        return tau.T @ torch.tensor(self.lam[name], dtype=tau.dtype, device=tau.device)

    def delta(self, name: str) -> Tensor:
        """The merged delta of one tensor, float32; low-rank deltas that share a factor take one product."""
        formed = self.deltas.formed(name)
        return super().delta(name) if formed is None else self._whole(name, formed)

    def low_rank(self, name: str) -> LowRank | None:
        """The merged delta of one tensor as factors, float32; None if what is summed is not low-rank.

        Factors that the experts do not share are put side by side, so that their ranks are summed.
        """
        formed = self.deltas.formed(name)
        if formed is not None:
            return self._of_shared(name, formed) if isinstance(formed, LowRank) else None
        factors = self.deltas.factors(name)
        if factors is None:
            return None
        weighted = [lam * f.scaling * f.B.float() for lam, f in zip(self.lam[name], factors, strict=True)]
        return LowRank(torch.cat(weighted, dim=1), torch.cat([f.A.float() for f in factors]))

    def _of_shared(self, name: str, formed: LowRank) -> LowRank:
        lam = self._coefficients(name)
        B, A = (torch.tensordot(lam, f, dims=1) if f.ndim == 3 else f for f in (formed.B, formed.A))
        return LowRank(B, A, formed.scaling)

    def _whole(self, name: str, formed: Value) -> Tensor:
        merged: Tensor
        if isinstance(formed, Tensor):
            merged = torch.tensordot(self._coefficients(name), formed, dims=1)
        else:
            merged = self._of_shared(name, formed).dense()
        self._check(name, merged, float(merged.sum()))
        return merged

    def _coefficients(self, name: str) -> Tensor:
        return torch.tensor(self.lam[name], dtype=torch.float32, device=self.deltas.base[name].device)

    def _write(self, name: str, merged: Tensor) -> None:
        """As theta_0 (1 - sum_t lam_t) + sum_t lam_t theta_t where experts are weights: without deltas."""
        theta_0 = self.deltas.base[name].reshape(-1)
        formed = self.deltas.formed(name)
        if formed is not None:
            merged.copy_(rounded(name, added(theta_0, self._whole(name, formed).view(-1)), merged.dtype))
            return
        theta = self.deltas.weights(name)
        if theta is None:
            super()._write(name, merged)
            return
        lam, parts, check = [1 - math.fsum(self.lam[name]), *self.lam[name]], [theta_0, *theta], 0.0
        if abs(lam[0]) <= len(theta) * sys.float_info.epsilon:
            # A mean needs no base: its coefficient is 0, up to rounding.
            lam, parts = lam[1:], parts[1:]
        weighted = self._add if merged.dtype.itemsize >= 4 else self._convert_and_add
        for where in places(theta_0, times=max(1, TOGETHER // len(parts))):
            check += float(weighted(lam, [part[where] for part in parts], merged[where]).sum())
        self._check(name, merged, check)

    def _add(self, lam: Sequence[float], theta: Sequence[Tensor], merged: Tensor) -> Tensor:
        """sum_t lam_t theta_t of a piece in float32 or wider, written to ``merged``."""
        torch.mul(theta[0].to(merged.dtype), lam[0], out=merged)
        for lam_t, theta_t in zip(lam[1:], theta[1:], strict=True):
            merged.add_(theta_t, alpha=lam_t)
        return merged

    def _convert_and_add(self, lam: Sequence[float], theta: Sequence[Tensor], merged: Tensor) -> Tensor:
        """sum_t lam_t theta_t of a piece in half precision: in float32, then rounded into ``merged``."""
        rows = self._rows(merged, len(theta))
        # Converted before the sum: torch is slower on mixed operands than on both steps.
        for row, theta_t in zip(rows, theta, strict=True):
            row.copy_(theta_t)
        total = torch.mv(rows.T, torch.tensor(lam, device=rows.device), out=self._total(merged))
        return merged.copy_(total)


def _coefficients_of(name: str, lam: Any, count: int) -> list[float]:
    """The coefficients of the experts in one tensor, from those of all tensors, or from one list for all.

    Raises:
        UserError: they are not a number for each expert.
    """
    given: Any = lam.get(name) if isinstance(lam, Mapping) else lam
    try:
        found = [float(number) for number in given]
    except (TypeError, ValueError):
        found = []
    if len(found) != count:
        raise UserError(
            f"{name}: combine has {given!r} for {count} experts: give it a number for each of them"
        )
    return found


def must_have(name: str, made: Any, shape: torch.Size) -> Tensor:
    """What a method makes of a tensor, or of a piece of it, in float32.

    Raises:
        UserError: it is of another shape, and would be broadcast, or no numbers with fractions.
    """
    found, due = type(made).__name__, f"float32 {[*shape]}"
    if isinstance(made, Tensor):
        found = f"{dtype_name(made.dtype)} {[*made.shape]}"
        if made.shape == shape and made.is_floating_point():
            return made.float()
    raise UserError(f"{name}: a method makes {found} of it, not {due}: correct its function")


def merge_state(base: State, merged: Merged) -> dict[str, Tensor]:
    """The merged model: theta_0 plus the merged deltas, each in the base's own dtype.

    Tensors that are not merged (integer buffers, aliases of tied weights) follow the base.
    """
    theta = dict(base)
    if isinstance(merged, Pieces):
        # Allocated before any merge: otherwise they would lie between a merge's temporary tensors and keep
        # that memory from being reused.
        for name in merged.deltas:
            theta[name] = torch.empty_like(base[name], memory_format=torch.contiguous_format)
        merged.write(theta)
    else:
        for name, delta in merged:
            theta[name] = rounded(name, added(base[name], delta), base[name].dtype)
    for name, alias in aliases(base).items():
        theta[name] = theta[alias]
    return theta
