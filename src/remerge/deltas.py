"""Experts as weight deltas over one base: task vectors, read piece by piece.

A task vector is ``tau_t = theta_t - theta_0``. Methods see the T experts stacked, in float32: entrywise ones
in pieces ``[T, n]`` that stay in the cache, the others one tensor ``[T, *shape]`` at a time. So nothing the
size of the model is made besides the merged weights, and inputs in bfloat16 are never converted whole.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from remerge.errors import UserError

PIECE = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Entries of one expert in a piece, by device: on a CPU, T of them stay in its cache."""

SAMPLE = 1 << 17
"""Entries of each expert that a random sample holds at most, in the main."""


@dataclass(frozen=True)
class LowRank:
    """A weight delta ``scaling · B A`` by its factors, as LoRA trains it (``alpha / r``, or ``alpha / √r``).

    Attributes:
        B: ``[n, r]``, or ``[T, n, r]`` for T deltas that share A.
        A: ``[r, m]``, or ``[T, r, m]`` for T deltas that share B.
        scaling: a factor on the product.
    """

    B: Tensor
    A: Tensor
    scaling: float = 1.0

    @property
    def shape(self) -> torch.Size:
        """The shape of the product, leading T left out."""
        return torch.Size((self.B.shape[-2], self.A.shape[-1]))

    @property
    def T(self) -> "LowRank":
        """The transposed delta."""
        return LowRank(self.A.mT, self.B.mT, self.scaling)

    def to(self, device: torch.device) -> "LowRank":
        """The same on a device."""
        return LowRank(self.B.to(device), self.A.to(device), self.scaling)

    def dense(self) -> Tensor:
        """The product, float32."""
        return (self.B.float() @ self.A.float()).mul_(self.scaling)


Value = Tensor | LowRank

State = Mapping[str, Tensor]
"""A model's tensors by name."""

Merged = Iterator[tuple[str, Tensor]]
"""A merged weight delta for every name, in the order of the base, float32."""

Entrywise = Callable[[Tensor, str, slice], Tensor]
"""A function of a piece ``[T, n]`` of a tensor, of the tensor's name and of the piece's place in it, flat.

It may overwrite the piece.
"""


class Deltas(Mapping[str, Tensor]):
    """The stacked weight deltas of T experts: ``deltas[name]`` is float32 ``[T, *shape]``.

    Args:
        base: the base's tensors, theta_0.
        experts: each expert's tensors, theta_t, under the expert's name. A `LowRank` in the place of a tensor
            is that tensor's delta.

    Raises:
        UserError: an expert lacks a tensor, or has one of another shape or dtype.
    """

    def __init__(self, base: State, experts: Mapping[str, Mapping[str, Value]]) -> None:
        if not experts:
            raise UserError("no experts to merge: give at least one")
        tied = aliases(base)
        self.base = {n: theta for n, theta in base.items() if theta.is_floating_point() and n not in tied}
        self.states = dict(experts)
        for expert, state in experts.items():
            for name, theta_0 in base.items():
                _check(expert, name, state, theta_0, tied.get(name))

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
        if not _finite(stacked):
            raise self.blame(name)
        return stacked.view(len(stacked), *theta_0.shape)

    def pieces(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        """The tensor's flat entries, float32 ``[T, n]``, piece by piece, in one buffer that is used again."""
        theta_0 = self.base[name].reshape(-1)
        values = [state[name] for state in self.states.values()]
        flat = [v.reshape(-1) if isinstance(v, Tensor) else v for v in values]
        buffer = torch.empty(len(flat), min(_piece(theta_0), theta_0.numel()), device=theta_0.device)
        wide = Scratch()
        for where in places(theta_0):
            piece = buffer[:, : where.stop - where.start]
            base = theta_0[where]
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
                taken.append(theta.reshape(-1)[index].float() - theta_0)
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
        """The factors of every expert's delta, if all have them."""
        values = [state[name] for state in self.states.values()]
        factors = [value for value in values if isinstance(value, LowRank)]
        return factors if len(factors) == len(values) else None

    def formed(self, name: str) -> Value | None:
        """The tensor's deltas, ``[T, *shape]`` or low-rank, if it can be had whole only."""
        return None

    def gram(self, name: str, *, weights: bool = False) -> Tensor:
        """The inner products of the experts' deltas, or weights, in one tensor: float64 ``[T, T]``."""
        theta_0 = self.base[name].reshape(-1)
        count = len(self.experts)
        products = torch.zeros(count, count, dtype=torch.float64, device=theta_0.device)
        scratch = Scratch(torch.float64)
        for where, tau in self.pieces(name):
            vectors = scratch(tau).copy_(tau.add_(theta_0[where]) if weights else tau)
            products.addmm_(vectors, vectors.T)
        return products.cpu()

    def entrywise(self, merge: Entrywise) -> "Pieces":
        """Merged deltas from ``merge``, ``[T, n]`` to ``[n]``."""
        return Pieces(self, merge)

    def tensorwise(self, merge: Callable[[str], Tensor]) -> Merged:
        """Merged deltas from ``merge``, a name to ``[*shape]``."""
        for name in self:
            merged = merge(name)
            if not _finite(merged):
                raise self.blame(name)
            yield name, merged

    def combine(self, lam: Sequence[float] | Mapping[str, Sequence[float]]) -> "Pieces":
        """sum_t lam_t tau_t with the same coefficients for all tensors, or with some for each name."""
        return Combined(self, lam)

    def map(self, change: Entrywise) -> "Deltas":
        """These deltas with ``change``, ``[T, n]`` to ``[T, n]``, made whenever a piece is read."""
        return _Changed(self, change)

    def replace(self, form: Callable[[str], Value | None]) -> "Deltas":
        """These deltas with ``form(name)``, ``[T, *shape]`` or low-rank, for a tensor; None keeps it."""
        return _Replaced(self, form)

    def subset(self, experts: Sequence[str]) -> "Deltas":
        """The deltas of some of the experts, sharing their tensors."""
        chosen = object.__new__(Deltas)
        chosen.base, chosen.states = self.base, {e: self.states[e] for e in experts}
        return chosen

    def blame(self, name: str) -> UserError:
        """The error for a merged tensor that is not finite."""
        for expert, state in self.states.items():
            value = state[name]
            parts = [value] if isinstance(value, Tensor) else [value.B, value.A]
            if not all(map(_finite, parts)):
                return UserError(f"expert {expert}: {name} holds NaN or infinity: train or fetch it anew")
        if not _finite(self.base[name]):
            return UserError(f"base: {name} holds NaN or infinity: fetch it anew")
        return UserError(f"{name}: the merge overflows: use smaller coefficients")


class Scratch:
    """A buffer that is used again for every piece: fresh memory costs more than what is computed in it."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._buffer = torch.empty(0, dtype=dtype)

    def __call__(self, like: Tensor) -> Tensor:
        """The buffer in the shape of a piece, its contents of no meaning."""
        if self._buffer.numel() < like.numel() or self._buffer.device != like.device:
            self._buffer = torch.empty(like.numel(), dtype=self._buffer.dtype, device=like.device)
        return self._buffer[: like.numel()].view(like.shape)


class Pieces(Iterator[tuple[str, Tensor]]):
    """Merged deltas that are computed piece by piece: iterate for the deltas, or ask for the weights."""

    def __init__(self, deltas: Deltas, merge: Entrywise) -> None:
        self.deltas, self.merge = deltas, merge
        self._iterator = ((name, self.delta(name)) for name in deltas)

    def __next__(self) -> tuple[str, Tensor]:
        return next(self._iterator)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """theta_0 plus the merged deltas, in the base's dtypes."""
        return ((name, self.weight(name)) for name in self.deltas)

    def weight(self, name: str) -> Tensor:
        """theta_0 plus the merged delta of one tensor, each piece added while it is at hand."""
        theta_0 = self.deltas.base[name].reshape(-1)
        merged = torch.empty_like(theta_0)
        check = torch.zeros((), device=theta_0.device)
        for where, tau in self.deltas.pieces(name):
            delta = self.merge(tau, name, where)
            check += delta.sum()
            torch.add(delta, theta_0[where], out=merged[where])
        return self._checked(name, merged, check)

    def delta(self, name: str) -> Tensor:
        """The merged delta of one tensor, float32."""
        theta_0 = self.deltas.base[name]
        merged = torch.empty(theta_0.numel(), device=theta_0.device)
        check = torch.zeros((), device=theta_0.device)
        for where, tau in self.deltas.pieces(name):
            merged[where] = self.merge(tau, name, where)
            check += merged[where].sum()
        return self._checked(name, merged, check)

    def _checked(self, name: str, merged: Tensor, check: Tensor) -> Tensor:
        """The merged tensor in its shape; ``check`` is a sum over it, taken while it was at hand."""
        if not bool(torch.isfinite(check)) and not _finite(merged):
            raise self.deltas.blame(name)
        return merged.view(self.deltas.base[name].shape)


class Combined(Pieces):
    """sum_t lam_t tau_t, with the same coefficients for all tensors or with some for each name."""

    def __init__(self, deltas: Deltas, lam: Sequence[float] | Mapping[str, Sequence[float]]) -> None:
        super().__init__(deltas, self._sum)
        self.lam = {name: list(lam[name] if isinstance(lam, Mapping) else lam) for name in deltas}

    def _sum(self, tau: Tensor, name: str, where: slice) -> Tensor:
        return tau.T @ torch.tensor(self.lam[name], dtype=tau.dtype, device=tau.device)

    def delta(self, name: str) -> Tensor:
        """The merged delta of one tensor, float32; of low-rank ones that share a factor, one product."""
        formed = self.deltas.formed(name)
        return super().delta(name) if formed is None else self._whole(name, formed)

    def _whole(self, name: str, formed: Value) -> Tensor:
        lam = torch.tensor(self.lam[name], dtype=torch.float32, device=self.deltas.base[name].device)
        if isinstance(formed, Tensor):
            merged = torch.tensordot(lam, formed, dims=1)
            return self._checked(name, merged, merged.sum())
        B, A = (torch.tensordot(lam, f, dims=1) if f.ndim == 3 else f for f in (formed.B, formed.A))
        merged = LowRank(B, A, formed.scaling).dense()
        return self._checked(name, merged, merged.sum())

    def weight(self, name: str) -> Tensor:
        """As theta_0 (1 - sum_t lam_t) + sum_t lam_t theta_t where experts are weights: no delta formed."""
        theta_0 = self.deltas.base[name]
        formed = self.deltas.formed(name)
        if formed is not None:
            return self._whole(name, formed).add_(theta_0).to(theta_0.dtype)
        theta = [state[name] for state in self.deltas.states.values()]
        if type(self.deltas) is not Deltas or any(isinstance(value, LowRank) for value in theta):
            return super().weight(name)
        flat = [value.reshape(-1) for value in theta if isinstance(value, Tensor)]
        base = theta_0.reshape(-1)
        # A mean needs no base: its coefficient is 0.
        terms = [(1 - sum(self.lam[name]), base), *zip(self.lam[name], flat, strict=True)]
        (first, start), *others = [term for term in terms if term[0]]
        merged, scratch = torch.empty_like(base), Scratch(torch.promote_types(theta_0.dtype, torch.float32))
        check = torch.zeros((), device=base.device)
        # Summed in the place of the result where its dtype allows; else the sum has to stay in the cache.
        in_place = merged.dtype == scratch.dtype
        for where in places(theta_0, times=4 if in_place else 1):
            total = merged[where] if in_place else scratch(base[where])
            torch.mul(start[where].to(total.dtype), first, out=total)
            for lam, values in others:
                total.add_(values[where], alpha=lam)
            if not in_place:
                merged[where] = total
            check += total.sum()
        return self._checked(name, merged, check)


class _Changed(Deltas):
    """Deltas whose pieces go through a function."""

    def __init__(self, source: Deltas, change: Entrywise) -> None:
        self.base, self.states = source.base, source.states
        self._source, self._change = source, change

    def pieces(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        for where, tau in self._source.pieces(name):
            yield where, self._change(tau, name, where)

    def factors(self, name: str) -> None:
        return None

    def at(self, name: str, index: Tensor) -> Tensor:
        return self[name].flatten(1)[:, index]

    def subset(self, experts: Sequence[str]) -> Deltas:
        raise UserError("prepared task vectors depend on all experts: take the subset before preparing")


class _Replaced(_Changed):
    """Deltas of which some tensors are formed whole."""

    def __init__(self, source: Deltas, form: Callable[[str], Value | None]) -> None:
        super().__init__(source, lambda tau, name, where: tau)
        self._form = form

    def __getitem__(self, name: str) -> Tensor:
        formed = self._form(name)
        if formed is None:
            return self._source[name]
        return formed.dense() if isinstance(formed, LowRank) else formed

    def pieces(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        formed = self._form(name)
        if formed is None:
            yield from self._source.pieces(name)
            return
        flat = (formed.dense() if isinstance(formed, LowRank) else formed).flatten(1)
        for where in places(self.base[name]):
            yield where, flat[:, where]

    def formed(self, name: str) -> Value | None:
        return self._form(name)


def places(tensor: Tensor, times: int = 1) -> Iterator[slice]:
    """The pieces of a tensor's flat entries, or wider ones. They depend on its size and device alone."""
    step, d = times * _piece(tensor), tensor.numel()
    for start in range(0, d, step):
        yield slice(start, min(start + step, d))


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: its transformer block, or ``other``.

    A block is the shortest prefix that ends in a number, ``model.layers.3`` or
    ``encoder.block.3``. Embeddings, final norm and head are a layer of their own.
    """
    block = re.match(r"(?:.*?\.)?\d+(?=\.)", name)
    return block.group() if block else "other"


def merge_state(base: State, merged: Merged) -> dict[str, Tensor]:
    """The merged model: theta_0 plus the merged deltas, each in the base's own dtype.

    Tensors that are not merged (integer buffers, aliases of tied weights) follow the base.
    """
    theta = dict(base)
    if isinstance(merged, Pieces):
        theta.update(merged.weights())
    else:
        for name, delta in merged:
            theta[name] = delta.add_(base[name]).to(base[name].dtype)
    for name, alias in aliases(base).items():
        theta[name] = theta[alias]
    return theta


def aliases(state: State) -> dict[str, str]:
    """The names that a model ties to an earlier name: both share one memory."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in state.items():
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if first.setdefault(place, name) != name:
                tied[name] = first[place]
    return tied


def _piece(tensor: Tensor) -> int:
    return PIECE.get(tensor.device.type, PIECE["cuda"])


def _read(tau: Tensor, theta: Value, theta_0: Tensor, where: slice) -> None:
    """Write a piece of an expert's delta into ``tau``; of ``theta_0`` the piece is given."""
    if isinstance(theta, LowRank):
        m = theta.shape[1]
        rows = slice(where.start // m, -(-where.stop // m))
        product = (theta.B[rows].float() @ theta.A.float()).flatten()
        first = where.start - rows.start * m
        torch.mul(product[first : first + tau.numel()], theta.scaling, out=tau)
    elif theta.dtype == theta_0.dtype == tau.dtype and theta.device == tau.device:
        torch.sub(theta[where], theta_0, out=tau)
    elif theta.dtype == torch.float64:
        tau.copy_(theta[where] - theta_0)
    else:
        tau.copy_(theta[where]).sub_(theta_0)


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())


def _check(expert: str, name: str, state: Mapping[str, Value], theta_0: Tensor, tied: str | None) -> None:
    if name not in state:
        if tied is None:
            raise UserError(f"expert {expert}: tensor {name} is missing: not trained from this base?")
        return
    theta = state[name]
    if theta.shape != theta_0.shape:
        raise UserError(
            f"expert {expert}: {name} is {list(theta.shape)}, the base's {list(theta_0.shape)}: "
            "another architecture or vocabulary"
        )
    if isinstance(theta, LowRank):
        return
    if theta.dtype != theta_0.dtype:
        raise UserError(
            f"expert {expert}: {name} is {_word(theta)}, the base's {_word(theta_0)}: load both in one dtype"
        )
    if tied is not None and isinstance(own := state.get(tied), Tensor):
        same = theta.data_ptr() == own.data_ptr() or torch.equal(theta, own)
        if not same:
            raise UserError(f"expert {expert}: {name} differs from {tied}, to which the base ties it")


def _word(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
