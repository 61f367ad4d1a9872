"""LoRA adapters as PEFT saves them: weight deltas by their factors."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from torch import nn

from remerge.checkpoints.models import tensors_of
from remerge.deltas import LowRank, State
from remerge.errors import UserError

CONFIG = "adapter_config.json"
PREFIX = "base_model.model."


def read_adapter(folder: Path, base: State) -> dict[str, LowRank]:
    """The weight deltas of an adapter by the names of the base's parameters, float32.

    Args:
        folder: `adapter_config.json` and its safetensors.
        base: the parameters of the model that it was trained on.

    Raises:
        UserError: it is no plain LoRA adapter, or one of another base.
    """
    try:
        config: Any = LoraConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / CONFIG}: cannot be read ({str(error).splitlines()[0]})") from None
    for refused, what in (("use_dora", "DoRA"), ("lora_bias", "a bias in LoRA")):
        if getattr(config, refused, False):
            raise UserError(f"{folder / CONFIG}: {what} is no low-rank delta: merge it into its base first")
    if config.peft_type != "LORA" or config.bias != "none":
        raise UserError(f"{folder / CONFIG}: only LoRA without biases is read: merge it into its base first")
    tensors = tensors_of(folder)
    found = {}
    for key in sorted(tensors):
        if not key.endswith(".lora_A.weight"):
            _refuse_other(folder, key, base)
            continue
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        A, B = tensors[key], tensors.get(key.replace(".lora_A.", ".lora_B."))
        if B is None:
            raise UserError(f"{folder}: tensor {key.replace('.lora_A.', '.lora_B.')} is missing")
        delta = LowRank(B.float(), A.float(), _scaling(config, module, A.shape[0]))
        delta = delta.T if config.fan_in_fan_out else delta
        name = f"{module}.weight"
        if name not in base or base[name].shape != delta.shape:
            there = f"is {list(base[name].shape)}" if name in base else "is missing"
            raise UserError(
                f"{folder}: an adapter for another base: {name} of the adapter is {list(delta.shape)}, "
                f"in the base it {there}"
            )
        if not (torch.isfinite(delta.A).all() and torch.isfinite(delta.B).all()):
            raise UserError(f"{folder}: {key} or its lora_B holds NaN or infinity: train or fetch it anew")
        found[name] = delta
    if not found:
        raise UserError(f"{folder}: the adapter holds no LoRA matrices")
    return found


@torch.no_grad()
def add_adapter(model: nn.Module, deltas: dict[str, LowRank]) -> None:
    """Add an adapter's deltas to the model's own weights."""
    parameters = dict(model.named_parameters())
    for name, delta in deltas.items():
        parameters[name].add_(delta.to(parameters[name].device).dense())


def _scaling(config: Any, module: str, rank: int) -> float:
    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)
    return float(alpha / (rank**0.5 if config.use_rslora else rank))


def _refuse_other(folder: Path, key: str, base: State) -> None:
    """Refuse what would change the merge if it were left out; heads and the B matrices are read elsewhere."""
    plain = key.removeprefix(PREFIX).replace("modules_to_save.", "")
    if ".lora_embedding_" in key or key.endswith(".lora_magnitude_vector") or plain in base:
        raise UserError(
            f"{folder}: {key} is no delta of a linear layer: merge the adapter into its base first"
        )
