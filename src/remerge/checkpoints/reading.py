"""A model's weights under the names that transformers gives them in memory, read as they are used."""

import re
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from remerge.checkpoints.architecture import HEADS, child
from remerge.checkpoints.stored import WIDE, quantised, stored_tensors
from remerge.deltas import dtype_name
from remerge.errors import UserError, cause_of


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a folder as `from_pretrained` would hold them.

    Attributes:
        folder: its folder.
        model: its architecture, without weights; None where only the stored names of tensors are known.
        tensors: its parameters and buffers by name, tied ones once, in the order of the model.
        ties: for each name that is tied to another, that other name.
        unread: stored tensors that the model has no place for.
    """

    folder: Path
    model: PreTrainedModel | None
    tensors: dict[str, Tensor]
    ties: dict[str, str] = field(default_factory=dict)
    unread: dict[str, Tensor] = field(default_factory=dict)

    @property
    def head(self) -> list[str]:
        """The names of the tensors by which a model chooses words: its output head's weight, and any bias."""
        whole: Any = self.model
        name = {id(p): name for name, p in whole.named_parameters(remove_duplicate=False)}
        names = [name[id(p)] for p in whole.get_output_embeddings().parameters()]
        return [self.ties.get(name, name) for name in names]


def read_checkpoint(folder: Path, model: PreTrainedModel) -> Checkpoint:
    """The weights of a folder as a model's own.

    Args:
        folder: a `save_pretrained` folder.
        model: its architecture, on the meta device. What is needed to write weights back as they were stored
            is noted in it, as transformers does.

    Raises:
        UserError: the folder is incomplete, or a tensor has another shape or is quantised.
    """
    rules = get_model_conversion_mapping(model)
    wanted: dict[str, Tensor] = model.state_dict()
    found, unread = _converted(folder, model, wanted, rules)
    whole: Any = model
    whole._weight_conversions = [rule for rule in rules if rule.was_used()]
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise UserError(
                f"{folder}: {name} is {list(tensor.shape)}, but {list(wanted[name].shape)} by config.json: "
                "download or save the model again"
            )
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name in parameters & found.keys():
        if found[name].dtype not in WIDE:
            raise UserError(quantised(folder, f"{name} is {dtype_name(found[name].dtype)}"))
    ties = _ties(model, found)
    missing = sorted(n for n in parameters - found.keys() - ties.keys() if not _kept_silent(model, n))
    # A body is pretrained without a head: the head's tensors are drawn at random when it is trained.
    if broken := [name for name in missing if child(name, model) not in HEADS]:
        raise UserError(
            f"{folder}: tensor {broken[0]} is missing: incomplete, or config.json is wrong: save it again"
        )
    held = {name: found[name] for name in wanted if name in found and name not in ties}
    return Checkpoint(folder, model, held, ties, _without_ignored(model, unread))


def _converted(
    folder: Path, model: PreTrainedModel, wanted: dict[str, Tensor], rules: list[Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The stored tensors as transformers converts them, and those that it has no place for.

    The steps of its `convert_and_load_state_dict_in_model`, without a model in memory.
    """
    stored = stored_tensors(folder)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    found: dict[str, Tensor] = {}
    unread: dict[str, Tensor] = {}
    parts: dict[str, Any] = {}
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, wanted)
        if name not in wanted and key in wanted:
            name, pattern = key, None
        if name not in wanted:
            unread[key] = stored[key]
        elif name in found or (pattern is None and name in parts):
            raise UserError(f"{folder}: {name} is stored twice, once as {key}: save the model again")
        elif pattern is None:
            found[name] = stored[key]
        else:
            part = parts.setdefault(name, deepcopy(by_pattern[pattern]))
            part.add_tensor(name, key, pattern, partial(stored.__getitem__, key))
    for name, part in parts.items():
        try:
            made = part.convert(name, model=model, config=model.config)
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            cause = cause_of(error)
            raise UserError(
                f"{folder}: {name} cannot be made from the stored tensors ({cause}): save the model again"
            ) from None
        found |= {n: _spooled(t[0] if isinstance(t, list) else t) for n, t in made.items()}
    return found, unread


def _spooled(tensor: Tensor) -> Tensor:
    """A copy in an unnamed file, so that it leaves memory when memory is short."""
    return in_a_file(tensor.shape, tensor.dtype).copy_(tensor)


def in_a_file(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Zeros in an unnamed file."""
    with tempfile.NamedTemporaryFile() as file:
        storage = torch.UntypedStorage.from_file(file.name, True, shape.numel() * dtype.itemsize)
        kept: Any = torch.empty(0, dtype=dtype)
        made: Tensor = kept.set_(storage, 0, shape)
        return made


def _ties(model: PreTrainedModel, found: Mapping[str, Tensor]) -> dict[str, str]:
    """The names that share another name's tensor, as `from_pretrained` ties them after reading the files.

    Tensors that are stored under both names and differ are not tied.
    """
    groups: dict[str, list[str]] = {}
    whole: Any = model
    for target, source in whole.all_tied_weights_keys.items():
        groups.setdefault(source, [source]).append(target)
    ties = {}
    for group in groups.values():
        held = next((name for name in group if name in found), None)
        for name in group:
            if held and name != held and (name not in found or torch.equal(found[name], found[held])):
                ties[name] = held
    return ties


def _kept_silent(model: Any, name: str) -> bool:
    return any(re.search(pattern, name) for pattern in model._keys_to_ignore_on_load_missing or ())


def _without_ignored(model: Any, unread: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Unread tensors without the buffers of older versions that transformers silently ignores."""
    ignored = model._keys_to_ignore_on_load_unexpected or ()
    patterns = [*ignored, r"rotary_emb\.inv_freq", r"(^|\.)position_ids$"]
    return {n: t for n, t in unread.items() if not any(re.search(pattern, n) for pattern in patterns)}
