"""Adapters as PEFT loads and merges them: their changes to the base's weights, low-rank where possible."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel

from remerge.checkpoints.architecture import HEADS, child, on_meta, placed
from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.stored import must_be_numbers, stored_tensors
from remerge.checkpoints.tuning import changes, classes, tuned
from remerge.deltas import LowRank, Value
from remerge.errors import UserError, cause_of

CONFIG = "adapter_config.json"

KINDS = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "HRA", "LN_TUNING")
"""The types of adapters that can be merged; each was compared with PEFT's own merge."""

INITIAL = (True, False, "gaussian", "eva", "orthogonal")
"""Initialisations of LoRA that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ, …) change it."""

REFUSED = {
    "kasa_config": "KaSA",
    "arrow_config": "Arrow",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
    "use_bdlora": "BD-LoRA",
    "use_qalora": "QA-LoRA",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "layer replication",
    "megatron_config": "Megatron",
}
"""Options of LoRA with which the trained model is not the base plus a delta of each weight."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's changes to its base.

    Attributes:
        values: under the names of the base's tensors, what is added to them (low-rank) or replaces them.
        own: trained tensors that the base has no place for, such as a classifier's head, named as in the
            model that the adapter was trained on.
    """

    values: dict[str, Value]
    own: dict[str, Tensor]


def read_adapter(folder: Path, base: Checkpoint) -> Adapter:
    """An adapter's changes to a base, as PEFT loads and merges it, float32.

    Args:
        folder: `adapter_config.json` and its safetensors.
        base: the model that it was trained on, its body under any head.

    Raises:
        UserError: a type that PEFT cannot merge, or that does not start from the base; a tensor that is
            missing or has no place; an adapter for another base.
    """
    if base.model is None:
        raise UserError(
            f"{folder}: an adapter of a base that transformers does not know: merge it into its "
            "base and give the model"
        )
    config, tensors = _config(folder), stored_tensors(folder)
    tensors = {name: tensor for name, tensor in tensors.items() if not _is_copy(name, tensors)}
    must_be_numbers(folder, tensors)
    if (folder / "heads").is_dir():
        # Heads of several tasks, as the pipeline writes them, are read from there, and have no factors.
        config.exclude_modules = rf"(.*\.)?({'|'.join(config.modules_to_save or [])})(\..*)?"
        config.modules_to_save = None
        tensors = {name: tensor for name, tensor in tensors.items() if ".heads." not in name}
    refusals = []
    for made in classes(config, base.model):
        try:
            network = tuned(folder, deepcopy(config), tensors, made, base.model)
        except UserError as error:
            refusals.append(error)
            continue
        return _placed(folder, network, base, base.model)
    raise refusals[0]


@torch.no_grad()
def add_adapter(model: nn.Module, values: Mapping[str, Value]) -> None:
    """Put an adapter's deltas and tensors into the model's own weights."""
    parameters = dict(model.named_parameters())
    for name, value in values.items():
        if isinstance(value, LowRank):
            parameters[name].add_(value.to(parameters[name].device).dense())
        else:
            parameters[name].copy_(value)


def _is_copy(name: str, stored: Mapping[str, Tensor]) -> bool:
    """Whether it is stored twice, as the biases inside PEFT's wrappers of heads are by ``bias="all"``."""
    return ".original_module." in name or name.replace(".modules_to_save.", ".") in stored.keys() - {name}


def _config(folder: Path) -> Any:
    """An adapter's configuration.

    Raises:
        UserError: it cannot be read, or is not a change to the base's own weights.
    """
    file = folder / CONFIG
    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: cannot be read ({cause_of(error)}): save it again") from None
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if kind not in KINDS:
        raise UserError(f"{file}: adapters of type {kind} cannot be merged: give a fine-tuned model")
    start = getattr(config, "init_lora_weights", True)
    if start not in INITIAL:
        raise UserError(
            f"{file}: init_lora_weights is {start!r}, which changes the base before training: convert it "
            "with PEFT's save_pretrained(…, path_initial_model_for_weight_conversion=…), "
            "or merge it into its base and give the model"
        )
    for option, what in REFUSED.items():
        if getattr(config, option, None):
            raise UserError(
                f"{file}: {what} ({option}) is not a delta of the base's weights: give a fine-tuned model"
            )
    config.inference_mode = True
    if kind == "LORA":
        # A random start would be overwritten.
        config.init_lora_weights = False
    return config


def _placed(folder: Path, network: PreTrainedModel, base: Checkpoint, whole: PreTrainedModel) -> Adapter:
    """All that an adapter changes, under the base's names."""
    plain = on_meta(type(network), network.config)
    there = placed(plain.state_dict(), plain, whole)
    held = {name: base.ties.get(found, found) for name, found in there.items()}

    def theta(name: str) -> Tensor:
        found = base.tensors.get(held.get(name, ""))
        if found is None:
            raise UserError(f"{folder}: an adapter for another base: it needs {name}: give its own base")
        return found

    changed = dict(changes(folder, network, theta))
    values: dict[str, Value] = {}
    own: dict[str, Tensor] = {}
    for name, value in changed.items():
        place = held.get(name, "")
        given = base.tensors.get(place)
        if given is not None and given.shape == value.shape:
            if isinstance(value, LowRank) or not torch.equal(value, given.to(value)):
                values[place] = value
        elif isinstance(value, Tensor) and (given is None or child(place, whole) in HEADS):
            own[name] = value
        else:
            found = "missing" if given is None else f"{list(given.shape)}"
            raise UserError(
                f"{folder}: an adapter for another base: {name} is {list(value.shape)} in the adapter, "
                f"{found} in the base: give its own base"
            )
    for place, value in values.items():
        # An adapter belongs to a module: on only one of the modules that share a tensor, it unties them.
        apart = [n for n in held if held[n] == place and not _same(value, changed.get(n))]
        if apart:
            trained = next(n for n in changed if held.get(n) == place and n not in apart)
            raise UserError(
                f"{folder}: it does not change {apart[0]} as it does {trained}, which is tied to it: give a "
                "base that is untied (tie_word_embeddings false in config.json, both tensors stored)"
            )
    if not values and not own:
        raise UserError(f"{folder}: the adapter changes nothing: leave it out")
    return Adapter(values, own)


def _same(value: Value, other: Value | None) -> bool:
    """Whether two names of one tensor get the same change."""
    if value is other or other is None:
        return value is other
    first, second = (v.dense() if isinstance(v, LowRank) else v for v in (value, other))
    return type(value) is type(other) and torch.equal(first, second)
