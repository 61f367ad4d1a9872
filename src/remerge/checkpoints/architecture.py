"""Architectures without weights: a model on the meta device knows its names, ties, shapes and renamings.

No code from a checkpoint is run.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, initialization
from transformers.core_model_loading import rename_source_key

from remerge.checkpoints.stored import refuse_quantised
from remerge.errors import UserError, cause_of

AS_DATA: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How transformers reads a folder: not from the hub, and without asking whether to run the folder's code."""

INNER = ("pooler", "pre_classifier")
"""The parts of a head that lead to no classes yet."""

HEADS = (*INNER, "classifier", "score", "classification_head")
"""Modules that transformers' classes put on a body that was pretrained without them."""


NOT_OF_THE_BODY = (
    *("drop", "init", "mask_", "pretraining", "router_"),  # how it is trained
    *("suppress", "tie_word", "token_id", "vocab"),  # its words
    *("max_", "use_cache"),  # how long its inputs may be
    *("classifier", "pooler", "summary"),  # its head
)
"""Parts of the names of an architecture's settings that do not change what the body computes."""


class Unknown(Exception):
    """A folder whose model transformers cannot make without code from the folder."""


def model_of(folder: Path) -> PreTrainedModel:
    """The model that `from_pretrained` makes of a folder's configuration, on the meta device.

    Raises:
        Unknown: there is no configuration, or transformers has no such class.
        UserError: the configuration contradicts itself, or calls the weights quantised.
    """
    refuse_quantised(folder)
    if not (folder / "config.json").is_file():
        raise Unknown(f"{folder} has no config.json")
    try:
        config = AutoConfig.from_pretrained(folder, **AS_DATA)
    except Exception as error:  # each configuration refuses its values in its own way
        cause = cause_of(error).partition(". ")[0][:160]
        raise Unknown(f"{folder}/config.json: {cause}") from None
    names = config.architectures or []
    made = getattr(transformers, names[0], None) if len(names) == 1 else None
    if not (isinstance(made, type) and issubclass(made, PreTrainedModel)):
        what = ", ".join(names) or "none"
        raise Unknown(f"{folder}/config.json names no architecture of transformers ({what})")
    return on_meta(made, config)


def on_meta(made: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    """A model of a class without memory for its weights.

    Raises:
        UserError: the configuration is not of this class.
    """
    try:
        with (
            initialization.no_tie_weights(),
            initialization.meta_device_safe_creation_ops(),
            torch.device("meta"),
        ):
            return made(deepcopy(config))
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError, ImportError) as error:
        cause = cause_of(error)
        raise UserError(
            f"{config.name_or_path}/config.json: no {made.__name__} can be made from it ({cause}): correct it"
        ) from None


def placed(names: Iterable[str], own: PreTrainedModel, other: PreTrainedModel) -> dict[str, str]:
    """The names that a model's tensors have in another model with the same body; those it lacks are left out.

    A body is prefixed where a head is put on it: `encoder.…` of a BertModel is `bert.encoder.…` of a
    BertForMaskedLM. A part of a model, such as CLIP's vision tower, has its place in the whole.

    Raises:
        UserError: neither is a part of the other.
    """
    there = other.state_dict()
    kind, sought = own.config.model_type, other.config.model_type
    if kind == sought:
        pairs = ((name, _renamed(name, other, there)) for name in names)
    elif (path := _part(other, kind)) is not None:
        pairs = ((name, f"{path}.{name}") for name in names)
    elif (path := _part(own, sought)) is not None:
        pairs = ((name, name.removeprefix(f"{path}.")) for name in names if name.startswith(f"{path}."))
    else:
        raise UserError(
            f"another architecture: it is a {kind}, the base a {sought}: give an expert of this base"
        )
    return {name: found for name, found in pairs if found in there}


def _renamed(name: str, other: PreTrainedModel, there: dict[str, Tensor]) -> str:
    """A name after transformers' own rule, which adds or removes the prefix of the body."""
    if name in there:
        return name
    found, _ = rename_source_key(name, [], [], other.base_model_prefix, there)
    return str(found)


def _part(model: PreTrainedModel, kind: str) -> str | None:
    """The path of a model of some type inside another."""
    for path, module in model.named_modules():
        if path and isinstance(module, PreTrainedModel) and module.config.model_type == kind:
            return str(path)
    return None


def unlike(own: Any, other: Any) -> Iterator[str]:
    """The settings with which two models of one type compute differently from weights of the same shapes."""
    if own.model_type != other.model_type:
        return
    mine, theirs = own.to_dict(), other.to_dict()
    # A class's own settings: others, such as a trainer's notes in config.json, are kept but not used.
    known = [n for n in signature(type(own)).parameters if n not in signature(PreTrainedConfig).parameters]
    for name in known:
        if name in own.sub_configs:
            yield from unlike(getattr(own, name), getattr(other, name))
        elif any(part in name for part in NOT_OF_THE_BODY):
            continue
        elif name in mine and mine[name] != theirs.get(name):
            yield name


def child(name: str, model: PreTrainedModel | None) -> str:
    """The part of the body, or the head, that a tensor belongs to."""
    prefix = model.base_model_prefix if model is not None else ""
    return name.removeprefix(f"{prefix}.").split(".")[0]
