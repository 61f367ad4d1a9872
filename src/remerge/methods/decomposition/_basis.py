"""Thin decompositions ``M = U C``: an orthonormal basis U of the columns and the coordinates C in it.

With ``M = U Σ Vᵀ`` the coordinates are ``C = Σ Vᵀ``: orthogonal rows whose norms are the singular values,
largest first. They come from a Gram matrix of the shorter side, or from QR of low-rank factors, so that
nothing larger than the factors is decomposed. Gram matrices are decomposed in float64, wide ones in float32
if small singular values are cut anyway.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from remerge.deltas import Deltas, LowRank, Value
from remerge.errors import UserError

NOT_LINEAR = re.compile(r"embed|shared\.weight|\bwte\b|\bwpe\b|bias|A_log$")
"""Matrices that multiply no states: embeddings, biases of positions and experts, and a Mamba's logarithms."""

WIDE = 2048
"""From this width on, Gram matrices are in float32 if singular values below 1% of the largest are cut."""


def linear_weights(deltas: Deltas) -> list[str]:
    """The names of the weight matrices of linear layers."""
    return [name for name, theta in deltas.base.items() if theta.ndim == 2 and not NOT_LINEAR.search(name)]


def averaged(deltas: Deltas) -> Callable[[str], Value]:
    """The mean of the tau_t, by a tensor's name: as factors if it is low-rank."""
    mean = deltas.combine([1 / len(deltas.experts)] * len(deltas.experts))
    return lambda name: mean.low_rank(name) or mean.delta(name)


def stacked(deltas: Deltas, name: str) -> Tensor | list[LowRank]:
    """A tensor's deltas: as factors if all experts have factors, else ``[T, n, m]``."""
    return deltas.factors(name) or deltas[name]


def decompose(M: Tensor, relative: float = 0.0, absolute: float = 0.0) -> tuple[Tensor, Tensor]:
    """Orthonormal U ``[n, r]`` and C ``[r, m]`` with M = U C, in the dtype of M, ``[n, m]``.

    Singular values are kept if they are above ``relative`` times the largest, above ``absolute``, and in any
    case above the rounding of float32, below which directions are noise.
    """
    n, m = M.shape
    if n <= m:
        U, _ = _left(M[None], relative, absolute)
        return U, U.T @ M
    # The left singular vectors of the transpose are V here: C = Σ Vᵀ and U = M V Σ⁻¹.
    V, sigma = _left(M.T[None], relative, absolute)
    return (M @ V) / sigma, (V * sigma).T


def joint(
    stack: Tensor | list[LowRank], relative: float = 0.0, absolute: float = 0.0
) -> tuple[Tensor, Tensor]:
    """A basis U ``[n, r]`` of the columns of all deltas, and the coordinates of each, ``[T, r, m]``, float32.

    That is ``[ΔW_1 … ΔW_T] = U Σ [V_1ᵀ … V_Tᵀ]`` with Σ V_tᵀ as coordinates. Low-rank deltas, ΔW_t = B_t A_t,
    are decomposed from the QR of ``[B_1 … B_T]``. The coordinates may overwrite dense deltas.
    """
    if isinstance(stack, Tensor):
        count, n, m = stack.shape
        if n <= count * m:
            U, _ = _left(stack, relative, absolute)
            C = stack[:, : U.shape[1]]
            for delta, c in zip(stack, C, strict=True):
                c.copy_(U.T @ delta)
            return U, C
        U, C = decompose(torch.cat(list(stack), dim=1), relative, absolute)
        return U, _blocks(C, count)
    Q, R = torch.linalg.qr(torch.cat([delta.B.double() for delta in stack], dim=1))
    parts = torch.split(R, [delta.B.shape[1] for delta in stack], dim=1)
    cores = [r @ delta.A.double() * delta.scaling for r, delta in zip(parts, stack, strict=True)]
    u, C = decompose(torch.cat(cores, dim=1), relative, absolute)
    # In row-major order: BLAS multiplies two column-major matrices several times slower.
    return (Q @ u.contiguous()).float(), _blocks(C.float(), len(stack))


def summed(stack: Tensor | list[LowRank]) -> Tensor | LowRank:
    """The sum of all deltas; of low-rank ones, as a single one."""
    if isinstance(stack, Tensor):
        return stack.sum(dim=0)
    return LowRank(
        torch.cat([delta.B.float() * delta.scaling for delta in stack], dim=1),
        torch.cat([delta.A.float() for delta in stack]),
    )


def singular(delta: Tensor | LowRank, absolute: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """The thin SVD of a matrix up to its numerical rank, float32: U ``[n, r]``, Σ ``[r]``, Vᵀ ``[r, m]``.

    Singular values of at most ``absolute`` are left out, too.
    """
    if isinstance(delta, Tensor):
        U, C = decompose(delta, absolute=absolute)
    else:
        Q, R = torch.linalg.qr(delta.B.double())
        u, C = decompose(R @ delta.A.double() * delta.scaling, absolute=absolute)
        U, C = (Q @ u).float(), C.float()
    sigma = C.norm(dim=1)
    return U, sigma, C / sigma[:, None]


def top(delta: Tensor | LowRank, kept: int, absolute: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Copies of the top singular triplets, with vectors in rows, so that the others leave memory."""
    U, sigma, Vt = singular(delta, absolute)
    return U.T[:kept].clone(), sigma[:kept], Vt[:kept].clone()


def nearest_orthogonal(M: Tensor) -> Tensor:
    """The polar factor U Vᵀ of M, the nearest matrix with orthonormal rows or columns."""
    U, _, Vt = singular(M)
    return U @ Vt


def rounding(side: int) -> float:
    """The largest singular value of float32's rounding noise, relative to that of a matrix of this side."""
    return math.sqrt(side) * torch.finfo(torch.float32).eps


def _blocks(C: Tensor, count: int) -> Tensor:
    return C.view(len(C), count, C.shape[1] // count).transpose(0, 1)


def _left(parts: Tensor, relative: float, absolute: float) -> tuple[Tensor, Tensor]:
    """Left singular vectors ``[n, r]`` and singular values ``[r]``, largest first, of T parts side by side.

    The parts are ``[T, n, m]`` with n at most T·m; `decompose` says which singular values are kept.
    """
    count, n, m = parts.shape
    relative = max(relative, rounding(count * m))
    # The squares of kept values are well above float32's rounding, and at this width float64 costs twice as
    # much.
    rough = n >= WIDE and relative >= 0.01
    vectors = _gram(parts, torch.float32 if rough else torch.float64)
    squared = vectors.new_empty(n)
    # The eigenvectors overwrite the Gram matrix.
    torch.linalg.eigh(vectors, out=(squared, vectors))
    sigma = squared.clamp_min(0).sqrt()
    at_least = max(relative * float(sigma[-1:].sum()), absolute)
    first = n - int(sigma.gt(at_least).sum())
    return vectors[:, first:].to(parts.dtype).flip(1), sigma[first:].to(parts.dtype).flip(0)


def _gram(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum of the M Mᵀ, mainly its lower triangle, from slices so that no M is converted as a whole.

    It is in column-major order, as LAPACK needs it.
    """
    n = parts.shape[1]
    gram = torch.zeros(n, n, dtype=dtype, device=parts.device).T
    for M in parts:
        for columns in torch.split(M, 1024, dim=1):
            wide = columns.to(dtype)
            for start in range(0, n, 512):
                end = min(start + 512, n)
                gram[start:end, :end].addmm_(wide[start:end], wide[:end].T)
    if not bool(torch.isfinite(gram.diagonal()).all()):
        raise UserError("a weight delta contains NaN or infinity: train or download the expert again")
    return gram
