"""The tensors of a folder as they are stored: in the files that transformers reads, and no others."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from remerge.deltas import dtype_name, finite
from remerge.errors import UserError
from remerge.files import AGAIN, MODEL, is_place, read_settings
from remerge.headers import damaged, shards

ADAPTER = "adapter_model.safetensors"

LINEARISED = "linearised.safetensors"
"""The weights of a linearised model (its expansion at the base's weights): not a name transformers reads."""

WIDE = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""The dtypes of weights; a matrix of any other dtype is quantised."""

COUNTS = (torch.int64, torch.bool)
"""The dtypes of positions and masks."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder contains an adapter of a base (PEFT), not a whole model."""
    return (folder / "adapter_config.json").is_file()


def is_linearised(folder: Path) -> bool:
    """Whether a folder contains the weights of a linearised model."""
    return (folder / LINEARISED).is_file()


def other_base(adapter: Path, base: Path) -> list[str]:
    """The hub id of the base that an adapter names, if the base comes from the hub under another id."""
    named = str(read_settings(adapter / "adapter_config.json").get("base_model_name_or_path") or "")
    cached = [part for part in base.parts if part.startswith("models--")]
    if not cached or not named or is_place(named) or cached[-1] == f"models--{named.replace('/', '--')}":
        return []
    return [named]


def weight_files(folder: Path) -> list[Path]:
    """The files of a model or adapter, as `from_pretrained` finds them: other safetensors are not read.

    Raises:
        UserError: there are none, one that the index names is missing, or the model is linearised.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: {MODEL}")
    if is_linearised(folder):
        raise UserError(
            f"{folder}: a linearised model, which only a benchmark with the same base can read: set "
            "finetune.recipe to linearised or tau_jp"
        )
    if is_adapter(folder):
        if not (folder / ADAPTER).is_file():
            raise UserError(f"{folder}: no {ADAPTER}: save the adapter with safe_serialization")
        return [folder / ADAPTER]
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return [folder / SAFE_WEIGHTS_NAME]
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if not index.is_file():
        # PEFT saves an adapter that has a name in a folder of this name.
        if adapters := sorted(path.parent.name for path in folder.glob("*/adapter_config.json")):
            names = ", ".join(adapters)
            raise UserError(f"{folder}: adapters in folders of their own, {names}: give one of these")
        raise UserError(
            f"{folder}: no {SAFE_WEIGHTS_NAME} and no index of shards: "
            "save the model with save_pretrained and safe_serialization"
        )
    files = [folder / name for name in sorted(set(shards(index).values()))]
    for file in files:
        if not file.is_file():
            raise UserError(f"{index} names {file.name}, which is missing: {AGAIN}")
    return files


def stored_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model or adapter under the names in its files; they are read when they are used.

    Raises:
        UserError: a file is missing or truncated, it lacks a tensor that the index places in it, or the
            weights are quantised.
    """
    refuse_quantised(folder)
    files = weight_files(folder)
    found: dict[str, Tensor] = {}
    owner: dict[str, str] = {}
    for file in files:
        for name, tensor in read_tensors(file).items():
            if name in found:
                raise UserError(f"{folder}: {name} is in {owner[name]} and in {file.name}: save it again")
            found[name], owner[name] = tensor, file.name
            if tensor.dtype not in (*WIDE, *COUNTS) and (tensor.ndim > 1 or tensor.is_floating_point()):
                raise UserError(quantised(folder, f"{name} is {dtype_name(tensor.dtype)}"))
    if len(files) > 1 or files[0].name not in (SAFE_WEIGHTS_NAME, ADAPTER):
        for name, place in shards(folder / SAFE_WEIGHTS_INDEX_NAME).items():
            if owner.get(name) != place:
                raise UserError(f"{folder / place}: no {name}, which the index places there: {AGAIN}")
    return found


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype of all weights of a whole model; float32 where there are several, or it is linearised.

    Raises:
        UserError: as `stored_tensors`.
    """
    if is_linearised(folder):
        return torch.float32
    found = {tensor.dtype for tensor in stored_tensors(folder).values() if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 and torch.float64 not in found else torch.float32


def must_be_numbers(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not finite.

    Raises:
        UserError: a tensor contains NaN or infinity.
    """
    for name, tensor in tensors.items():
        if not finite(tensor):
            raise UserError(f"{folder}: {name} contains NaN or infinity: train or download it again")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, mapped into memory.

    Raises:
        UserError: it is missing or truncated.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118, it is no mapping
    except (SafetensorError, OSError) as error:
        raise damaged(file, error) from None


def metadata(file: Path) -> dict[str, str]:
    """The header of a safetensors file."""
    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata() or {})


def quantised(folder: Path, what: str) -> str:
    """The error message about quantised weights."""
    return (
        f"{folder}: quantised ({what}): give the model that it was made from, "
        "or load it with transformers, call model.dequantize() and save that"
    )


def refuse_quantised(folder: Path) -> None:
    """Refuse a model whose configuration, or a part of it, says that it is quantised."""
    for file in ("config.json", "quantize_config.json", "quant_config.json"):
        if (folder / file).is_file():
            given = read_settings(folder / file)
            found = given if file != "config.json" else _quantisation(given)
            if found is not None:
                how = found.get("quant_method") or found.get("quant_algo") or file
                raise UserError(quantised(folder, str(how)))


def _quantisation(config: Any) -> Any:
    if not isinstance(config, dict):
        return None
    for name in ("quantization_config", "compression_config"):
        if isinstance(found := config.get(name), dict):
            return found
    return next((found for part in config.values() if (found := _quantisation(part)) is not None), None)
