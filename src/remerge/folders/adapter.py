"""A merge as one adapter of its base: exactly, if it is one of adapters, or nearly."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from remerge.checkpoints.reading import Checkpoint
from remerge.deltas import Combined, Deltas, LowRank, Merged, Tensors, rounded
from remerge.errors import UserError

LAYERS = (nn.Linear, Conv1D, nn.Embedding)
"""The layers into which PEFT puts factors."""

HINT = "It is an adapter of the base: `PeftModel.from_pretrained(base, folder)`."
"""How to use it."""


def low_rank(base: Checkpoint, deltas: Deltas, merged: Merged) -> dict[str, LowRank] | None:
    """The merged deltas as factors, float32, by the names of tensors.

    Their rank is that of the experts' adapters together, but at most the shorter side of the tensor. None if
    an expert changes a tensor otherwise than by low rank, or a method its products' entries; or if modules
    share a tensor, of which an adapter would change one.
    """
    if not isinstance(merged, Combined | Tensors) or any(deltas.factors(name) is None for name in deltas):
        return None
    if deltas.base.keys() & {*base.ties.values()}:
        return None
    found: dict[str, LowRank] = {}
    for name in deltas:
        factors = merged.low_rank(name)
        if factors is None:
            return None
        B, A = factors.B * factors.scaling, factors.A
        if len(A) > min(factors.shape):
            U, sigma, A = torch.linalg.svd(B @ A, full_matrices=False)
            B = U * sigma
        if len(A):
            found[name] = LowRank(B, A)
    return found or None


@dataclass(frozen=True)
class Nearest:
    """The adapter that is nearest to a merge, among those of a rank.

    Attributes:
        factors: float32, by the names of tensors.
        kept: the share of the merged deltas' squared norm that is in them.
        outside: the same share for tensors that an adapter cannot hold, by their names.
    """

    factors: Mapping[str, LowRank]
    kept: float
    outside: Mapping[str, float]

    def __str__(self) -> str:
        said = f"the adapter keeps {self.kept:.2%} of what the merge changes (by the sum of squares)"
        if not self.outside:
            return said
        most, among = max(self.outside, key=lambda name: self.outside[name]), len(self.outside)
        share = sum(self.outside.values())
        return f"{said}; {share:.2%} is outside its layers, in {among} tensors such as {most}"


def nearest(base: Checkpoint, merged: Merged, rank: int) -> Nearest:
    """The first singular directions of every matrix (Eckart and Young, 1936).

    Biases, norms, stacked experts and tensors that modules share are left out.

    Args:
        base: the base.
        merged: the merged deltas.
        rank: the most directions of a matrix.

    Raises:
        UserError: the rank is none, transformers does not know the base's layers, or none of them changes.
    """
    if rank < 1:
        raise UserError(f"--rank {rank}: give a rank of at least 1")
    if base.model is None:
        raise UserError(f"--rank: transformers does not know the layers of {base.folder}: leave it out")
    model: Any = base.model
    layers = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, LAYERS)}
    layers.difference_update(base.ties.values())
    factors, outside = {}, {}
    inside = kept = 0.0
    for name, delta in merged:
        if name not in layers:
            outside[name] = _squares(delta)
            continue
        inside += _squares(delta)
        U, sigma, V = torch.linalg.svd(delta, full_matrices=False)
        root = sigma[: min(rank, int(sigma.count_nonzero()))].sqrt()
        if len(root):
            factors[name] = LowRank(U[:, : len(root)] * root, root[:, None] * V[: len(root)])
            kept += _squares(root.square())
    if not factors:
        raise UserError("--rank: the merge changes no layer that an adapter can hold: leave it out")
    whole = inside + sum(outside.values())
    changed = {name: square / whole for name, square in outside.items() if square}
    return Nearest(factors, kept / whole, changed)


def _squares(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())


def exact(method: str, base: Checkpoint, weights: Deltas, merged: Merged) -> Mapping[str, LowRank]:
    """The merge's change of the base as factors.

    Raises:
        UserError: it is not low-rank.
    """
    factors = low_rank(base, weights, merged)
    if factors is None:
        raise UserError(
            f"--adapter: {method} of these experts is no adapter of the base: give a --rank for the nearest, "
            "or merge LoRA adapters that change neither tied tensors nor embeddings, by a linear method or a "
            "decomposition other than wudi and doge"
        )
    return factors


def rounded_factors(factors: Mapping[str, LowRank], dtype: str) -> dict[str, LowRank]:
    """Factors in the dtype in which they are written, which refuses numbers that are too large for it."""
    made: torch.dtype = getattr(torch, dtype)
    return {name: LowRank(rounded(name, f.B, made), rounded(name, f.A, made)) for name, f in factors.items()}


def adapter_of(model: Any, factors: Mapping[str, LowRank], base: str, task_type: str | None) -> Any:
    """An adapter, as PEFT's model, to be saved.

    Args:
        model: the base, which may be without weights; PEFT puts its layers into it.
        factors: by the names of the base's tensors.
        base: the base's name in the adapter's configuration.
        task_type: PEFT's name for what the adapter is for.
    """
    # Imported here: PEFT takes a second, and most merges have no adapters.
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import Embedding

    from remerge.checkpoints.tuning import PREFIX

    layers = {name.removesuffix(".weight"): factor for name, factor in factors.items()}
    ranks = {name: len(factor.A) for name, factor in layers.items()}
    # With alpha equal to the rank, the product of the factors is the delta.
    most = max(ranks.values())
    settings: dict[str, Any] = {
        "r": most,
        "lora_alpha": most,
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "target_modules": list(ranks),
    }
    with warnings.catch_warnings():
        # Of names that are to change, and of what PEFT finds out for itself.
        warnings.simplefilter("ignore")
        adapted: Any = get_peft_model(model, LoraConfig(**settings))
    for name, factor in layers.items():
        layer = adapted.get_submodule(f"{PREFIX}{name}")
        if isinstance(layer, Embedding):
            layer.lora_embedding_A["default"] = _parameter(factor.T.A)
            layer.lora_embedding_B["default"] = _parameter(factor.T.B)
        else:
            stored = factor.T if layer.fan_in_fan_out else factor
            layer.lora_A["default"].weight = _parameter(stored.A)
            layer.lora_B["default"].weight = _parameter(stored.B)
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.task_type = base, task_type
    return adapted


def _parameter(factor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(factor.contiguous(), requires_grad=False)
