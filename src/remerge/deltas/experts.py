"""Experts as weight deltas from one base: task vectors, read piece by piece.

A task vector is ``tau_t = theta_t - theta_0``. Methods see the T experts stacked, in float32: entrywise ones
in pieces ``[T, n]`` that stay in the cache, the others one tensor ``[T, *shape]`` at a time. So nothing the
size of the model is made besides the merged weights, and inputs in bfloat16 are never converted whole.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from remerge.deltas.fitting import must_fit
from remerge.deltas.merged import Combined, Entrywise, Pieces, Tensors, must_have
from remerge.deltas.tensors import (
    LowRank,
    Scratch,
    State,
    Value,
    aliases,
    finite,
    places,
)
from remerge.errors import Diverged, UserError

SAMPLE = 1 << 17
"""Entries of each expert in a random sample: at most about this many."""


class Deltas(Mapping[str, Tensor]):
    """The stacked weight deltas of T experts: ``deltas[name]`` is float32 ``[T, *shape]``.

    Args:
        base: the base's tensors, theta_0.
        experts: each expert's tensors, theta_t, under the expert's name. A `LowRank` in place of a tensor
            is that tensor's delta.
        model: the names of all the model's tensors, if the base's are only those that adapters change.

    Raises:
        UserError: an expert lacks a tensor, or has one of another shape, or of a dtype too narrow for the
            base's.
    """

    def __init__(
        self,
        base: State,
        experts: Mapping[str, Mapping[str, Value]],
        model: Collection[str] | None = None,
    ) -> None:
        if not experts:
            raise UserError("no experts to merge: give at least one")
        tied = aliases(base)
        self.base = {n: theta for n, theta in base.items() if theta.is_floating_point() and n not in tied}
        self.states = dict(experts)
        self.model = base.keys() if model is None else model
        for expert, state in experts.items():
            if not isinstance(state, Mapping):
                raise UserError(f"expert {expert} is a {type(state).__name__}: give its tensors by name")
            for name, theta_0 in base.items():
                must_fit(expert, name, state, theta_0, tied.get(name))

    @property
    def experts(self) -> list[str]:
        """The experts' names, in the order of the stack."""
        return list(self.states)

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, name: str) -> Tensor:
        theta_0 = self.base[name]
        stacked = torch.empty(len(self.experts), theta_0.numel(), device=theta_0.device)
        for where, tau in self.pieces(name):
            stacked[:, where] = tau
        if not finite(stacked):
            raise self.blame(name)
        return stacked.view(len(stacked), *theta_0.shape)

    def pieces(self, name: str, whole: int = 1) -> Iterator[tuple[slice, Tensor]]:
        """The tensor's flat entries, float32 ``[T, n]``, piece by piece, in one buffer that is reused.

        All but the last piece have a multiple of ``whole`` entries.
        """
        theta_0 = self.base[name].reshape(-1)
        values = [state[name] for state in self.states.values()]
        flat = [v.reshape(-1) if isinstance(v, Tensor) else v for v in values]
        buffer, wide = Scratch(), Scratch()
        for where in places(theta_0, whole=whole):
            base = theta_0[where]
            piece = buffer(base, len(flat))
            # Half precision is converted once for all experts, float64 after the subtraction.
            base = wide(base).copy_(base) if base.dtype.itemsize < 4 else base
            for tau, theta in zip(piece, flat, strict=True):
                _read(tau, theta, base, where)
            yield where, piece

    def at(self, name: str, index: Tensor) -> Tensor:
        """The entries at the flat positions ``index``, ``[T, n]``."""
        theta_0 = self.base[name].reshape(-1)[index].float()
        m = self.base[name].shape[-1:].numel()
        taken = []
        for state in self.states.values():
            theta = state[name]
            if isinstance(theta, LowRank):
                rows, columns = theta.B[index // m].float(), theta.A.mT[index % m].float()
                taken.append((rows * columns).sum(dim=1) * theta.scaling)
            else:
                own = theta.reshape(-1)[index.to(theta.device)].to(theta_0.device)
                taken.append(own.float() - theta_0)
        return torch.stack(taken)

    def sample(self, names: Sequence[str]) -> Tensor:
        """Entries of the named tensors, drawn evenly, ``[T, n]``; the same at every call."""
        total = sum(self.base[name].numel() for name in names)
        size = min(SAMPLE, max(1024, total // 16))
        generator = torch.Generator().manual_seed(0)
        taken = []
        for name in names:
            d = self.base[name].numel()
            index = torch.randint(max(d, 1), (-(-size * d // max(total, 1)),), generator=generator)
            taken.append(self.at(name, index.to(self.base[name].device)).cpu())
        return torch.cat(taken, dim=1)

    def factors(self, name: str) -> list[LowRank] | None:
        """The factors of every expert's delta, if it is low-rank in some and in the others the base's own."""
        values = [state[name] for state in self.states.values()]
        known = [value for value in values if isinstance(value, LowRank)]
        if not known or any(isinstance(v, Tensor) and v is not self.base[name] for v in values):
            return None
        unchanged = LowRank(known[0].B[:, :0], known[0].A[:0])
        return [value if isinstance(value, LowRank) else unchanged for value in values]

    def formed(self, name: str) -> Value | None:
        """The tensor's deltas, ``[T, *shape]`` or low-rank, if they exist only as a whole."""
        return None

    def weights(self, name: str) -> list[Tensor] | None:
        """The experts' own weights, flat, if their deltas are just the differences from the base."""
        values = [state[name] for state in self.states.values()]
        dense = [value.reshape(-1) for value in values if isinstance(value, Tensor)]
        return dense if len(dense) == len(values) else None

    def gram(self, name: str, *, weights: bool = False) -> Tensor:
        """The inner products of the experts' deltas, or weights, in one tensor: float64 ``[T, T]``."""
        theta_0 = self.base[name].reshape(-1)
        count = len(self.experts)
        products = torch.zeros(count, count, dtype=torch.float64, device=theta_0.device)
        scratch = Scratch(torch.float64)
        for where, tau in self.pieces(name):
            vectors = scratch(tau).copy_(tau.add_(theta_0[where]) if weights else tau)
            # One triangle, row by row: BLAS is slower on matrices with so few rows.
            for t, vector in enumerate(vectors):
                products[t, : t + 1].addmv_(vectors[: t + 1], vector)
        return (products + products.tril(-1).T).cpu()

    def entrywise(self, merge: Entrywise) -> Pieces:
        """Merged deltas from ``merge``, ``[T, n]`` to ``[n]``."""
        return Pieces(self, merge)

    def tensorwise(self, merge: Callable[[str], Value]) -> Tensors:
        """Merged deltas from ``merge``, a name to ``[*shape]`` or low-rank."""
        return Tensors(self, merge)

    def combine(self, lam: Sequence[float] | Mapping[str, Sequence[float]]) -> Combined:
        """sum_t lam_t tau_t, with the same coefficients for all tensors or separate ones for each name."""
        return Combined(self, lam)

    def map(self, change: Entrywise) -> "Deltas":
        """These deltas with ``change``, ``[T, n]`` to ``[T, n]``, applied whenever a piece is read."""
        return _Changed(self, change)

    def map_rows(self, change: Entrywise) -> "Deltas":
        """As `map`, with pieces of whole rows, or a whole tensor of one dimension."""
        return _ByRows(self, change)

    def replace(self, form: Callable[[str], Value | None]) -> "Deltas":
        """These deltas with ``form(name)``, ``[T, *shape]`` or low-rank, for a tensor; None keeps it."""
        return _Replaced(self, form)

    def subset(self, experts: Sequence[str], names: Collection[str] | None = None) -> "Deltas":
        """The deltas of some of the experts, and of some tensors, sharing their memory."""
        chosen = object.__new__(Deltas)
        some = {*self.base} if names is None else {*names}
        chosen.base = {name: theta for name, theta in self.base.items() if name in some}
        chosen.states = {e: self.states[e] for e in experts}
        chosen.model = self.model
        return chosen

    def blame(self, name: str) -> UserError:
        """The error about a merged tensor that is not finite."""
        for expert, state in self.states.items():
            value = state[name]
            parts = [value] if isinstance(value, Tensor) else [value.B, value.A]
            if not all(map(finite, parts)):
                return UserError(
                    f"expert {expert}: {name} contains NaN or infinity: train or download it again"
                )
        if not finite(self.base[name]):
            return UserError(f"base: {name} contains NaN or infinity: download it again")
        return Diverged(f"{name}: the merge overflows: use smaller coefficients")


class _Changed(Deltas):
    """Deltas whose pieces go through a function."""

    def __init__(self, source: Deltas, change: Entrywise) -> None:
        self.base, self.states, self.model = source.base, source.states, source.model
        self._source, self._change = source, change

    def pieces(self, name: str, whole: int = 1) -> Iterator[tuple[slice, Tensor]]:
        for where, tau in self._source.pieces(name, whole):
            shape = tau.shape
            yield where, must_have(name, self._change(tau, name, where), shape)

    def factors(self, name: str) -> list[LowRank] | None:
        return None

    def weights(self, name: str) -> None:
        return None

    def at(self, name: str, index: Tensor) -> Tensor:
        return self[name].flatten(1)[:, index]

    def subset(self, experts: Sequence[str], names: Collection[str] | None = None) -> Deltas:
        raise UserError("prepared task vectors depend on all experts: take the subset before preparing")


class _ByRows(_Changed):
    """Deltas whose pieces of whole rows go through a function."""

    def pieces(self, name: str, whole: int = 1) -> Iterator[tuple[slice, Tensor]]:
        theta_0 = self.base[name]
        # Eight rows: random masks are drawn from multiples of eight entries.
        rows = 8 * theta_0.shape[-1] if theta_0.ndim > 1 else theta_0.numel()
        yield from super().pieces(name, math.lcm(whole, max(rows, 1)))


class _Replaced(_Changed):
    """Deltas with some tensors formed as a whole."""

    def __init__(self, source: Deltas, form: Callable[[str], Value | None]) -> None:
        super().__init__(source, lambda tau, name, where: tau)
        self._form = form

    def __getitem__(self, name: str) -> Tensor:
        formed = self._form(name)
        return self._source[name] if formed is None else self._dense(name, formed)

    def pieces(self, name: str, whole: int = 1) -> Iterator[tuple[slice, Tensor]]:
        formed = self._form(name)
        if formed is None:
            yield from self._source.pieces(name, whole)
            return
        flat = self._dense(name, formed).flatten(1)
        for where in places(self.base[name], whole=whole):
            yield where, flat[:, where]

    def factors(self, name: str) -> list[LowRank] | None:
        """What is formed of low-rank deltas: each expert's factors, of which one is shared by all."""
        formed = None if Deltas.factors(self, name) is None else self._form(name)
        if not isinstance(formed, LowRank):
            return None
        B, A = (f.expand(len(self.states), -1, -1) for f in (formed.B, formed.A))
        return [LowRank(b, a, formed.scaling) for b, a in zip(B, A, strict=True)]

    def formed(self, name: str) -> Value | None:
        formed = self._form(name)
        return self._dense(name, formed) if isinstance(formed, Tensor) else formed

    def _dense(self, name: str, formed: Value) -> Tensor:
        """What is formed of a tensor, ``[T, *shape]``."""
        dense = formed.dense() if isinstance(formed, LowRank) else formed
        return must_have(name, dense, torch.Size((len(self.states), *self.base[name].shape)))


def _read(tau: Tensor, theta: Value, theta_0: Tensor, where: slice) -> None:
    """Write a piece of an expert's delta into ``tau``; ``theta_0`` is already that piece."""
    if isinstance(theta, LowRank):
        m = theta.shape[1]
        rows = slice(where.start // m, -(-where.stop // m))
        product = (theta.B[rows].float() @ theta.A.float()).flatten()
        first = where.start - rows.start * m
        torch.mul(product[first : first + tau.numel()], theta.scaling, out=tau)
    elif theta.dtype == theta_0.dtype == tau.dtype and theta.device == tau.device:
        torch.sub(theta[where], theta_0, out=tau)
    elif theta.dtype == torch.float64:
        tau.copy_(theta[where].to(theta_0.device) - theta_0)
    else:
        tau.copy_(theta[where]).sub_(theta_0)
