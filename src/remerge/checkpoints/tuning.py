"""A model with an adapter in it, as PEFT makes one, but with only the adapter in memory."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.tuners.lora import Embedding, Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from peft.utils.save_and_load import set_peft_model_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from remerge.checkpoints.architecture import on_meta
from remerge.deltas import LowRank, Value
from remerge.errors import UserError, cause_of
from remerge.files import AGAIN

PREFIX = "base_model.model."
"""What PEFT puts before the name of a base's tensor or module."""

AUTO = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}
"""The class that PEFT puts an adapter on, by its task."""


def classes(config: Any, model: PreTrainedModel) -> Iterator[type[PreTrainedModel]]:
    """The models that an adapter may have been trained on: the base, or its body under another head."""
    yield type(model)
    named = (getattr(config, "auto_mapping", None) or {}).get("base_model_class", "")
    auto = getattr(transformers, AUTO.get(str(config.task_type), ""), None)
    heads = [getattr(transformers, named, None)]
    heads += [auto._model_mapping.get(type(model.config), None)] if auto else []
    for found in dict.fromkeys(heads):
        if isinstance(found, type) and issubclass(found, PreTrainedModel) and found is not type(model):
            yield found


def tuned(
    folder: Path,
    config: Any,
    tensors: Mapping[str, Tensor],
    made: type[PreTrainedModel],
    like: PreTrainedModel,
) -> PreTrainedModel:
    """A model of a class with the adapter in it, and blank tensors in place of the base's.

    Args:
        folder: the adapter's folder.
        config: its PEFT configuration.
        tensors: its tensors as they are stored.
        made: the class.
        like: the base, which gives the class its configuration.

    Raises:
        UserError: a tensor of the adapter is missing, has no place in this class, or has another shape.
    """
    model = on_meta(made, like.config)
    width = _width(tensors, model)
    if width:
        settings = {**model.config.to_dict(), "num_labels": width}
        model = on_meta(made, type(model.config).from_dict(settings))
    _blank(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole: Any = PeftModel(model, config)
        whole.load_state_dict = partial(whole.load_state_dict, assign=True)
        wide = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
        found: Any = set_peft_model_state_dict(whole, wide)
    except (RuntimeError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        cause = cause_of(error)
        raise UserError(
            f"{folder}: an adapter for another base: PEFT cannot put it on a {made.__name__} ({cause}): "
            "give its own base"
        ) from None
    marks = (PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type], "modules_to_save.", "trainable_tokens_delta.")
    absent = {*found.missing_keys}
    named = dict(whole.named_parameters(remove_duplicate=False))
    # A parameter that two layers share is stored once.
    loaded = {id(parameter) for name, parameter in named.items() if name not in absent}
    own = [name for name in absent if any(mark in name for mark in marks)]
    if missing := [name for name in own if id(named.get(name)) not in loaded]:
        raise UserError(f"{folder}: tensor {min(missing)} is missing: {AGAIN}")
    if found.unexpected_keys:
        place = min(found.unexpected_keys)
        raise UserError(
            f"{folder}: an adapter for another base: a {made.__name__} has no {place}: give its own base"
        )
    network: PreTrainedModel = whole.get_base_model()
    return network


def changes(
    folder: Path, network: PreTrainedModel, theta: Callable[[str], Tensor]
) -> Iterator[tuple[str, Value]]:
    """An adapter's change to each tensor: a low-rank delta, or a tensor that replaces it.

    Args:
        folder: the adapter's folder.
        network: the model with the adapter in it.
        theta: the base's tensor of a name in this model.

    Raises:
        UserError: PEFT cannot merge its type.
    """
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    layers: dict[str, Any] = {path: m for path, m in network.named_modules() if isinstance(m, kinds)}
    outer = {n: m for n, m in layers.items() if not any(n.startswith(f"{other}.") for other in layers)}
    for path, layer in outer.items():
        try:
            for name, value in _layer(layer, partial(_below, theta, path)):
                yield f"{path}.{name}", value
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{folder}: PEFT cannot merge it into {path} ({cause_of(error)}): give a fine-tuned model"
            ) from None
    for name, parameter in network.named_parameters():
        if not _is_blank(parameter) and not name.startswith(tuple(f"{path}." for path in outer)):
            yield name, parameter.detach()


def _below(theta: Callable[[str], Tensor], path: str, name: str) -> Tensor:
    return theta(f"{path}.{name}")


@torch.no_grad()
def _layer(layer: Any, theta: Callable[[str], Tensor]) -> Iterator[tuple[str, Value]]:
    """The change that one layer of an adapter makes to the weights beneath it."""
    if isinstance(layer, ModulesToSaveWrapper):
        saved: Any = layer.modules_to_save["default"]
        yield from ((name, parameter.detach()) for name, parameter in saved.named_parameters())
        return
    tuner = layer.token_adapter if isinstance(layer, AuxiliaryTrainingWrapper) else layer
    inner: nn.Module = tuner.get_base_layer()
    # The layer's own tensors that the adapter stores: trained biases, or embeddings, trained or not.
    stored = {n: p for n, p in inner.named_parameters() if not _is_blank(p) and not _equal(p, theta(n))}
    factors = _factors(layer)
    if factors is not None and "weight" not in stored:
        theta("weight")
        yield "weight", factors
        yield from ((name, parameter.detach()) for name, parameter in stored.items())
        return
    before = {}
    for name in dict(inner.named_parameters()):
        if name not in stored:
            before[name] = theta(name)
            owner, _, last = name.rpartition(".")
            given = before[name].to("cpu", torch.float32, copy=True)
            setattr(inner.get_submodule(owner), last, nn.Parameter(given, requires_grad=False))
    if hasattr(layer, "unload_and_optionally_merge_module"):
        inner = layer.unload_and_optionally_merge_module(merge=True, safe_merge=True, adapter_names=None)
    else:
        layer.merge(safe_merge=True)
        inner = layer.get_base_layer()
    for name, parameter in inner.named_parameters():
        if name not in before or not _equal(parameter, before[name]):
            yield name, parameter.detach()


def _factors(layer: Any) -> LowRank | None:
    """The factors of a layer that adds only their product to its weight."""
    plain = type(layer) in (Linear, Embedding) and "default" not in layer.lora_variant
    if not plain or layer.lora_bias["default"]:
        return None
    scaling = float(layer.scaling["default"])
    if isinstance(layer, Embedding):
        B, A = layer.lora_embedding_B["default"], layer.lora_embedding_A["default"]
        return LowRank(B.detach(), A.detach(), scaling).T
    B, A = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    delta = LowRank(B.detach(), A.detach(), scaling)
    return delta.T if layer.fan_in_fan_out else delta


def _blank(model: nn.Module) -> None:
    """Give a model on the meta device CPU tensors that take no memory: one zero, repeated.

    PEFT puts an adapter on its base's device, and computes some of its buffers there.
    """
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            blank = nn.Parameter(torch.zeros((), dtype=parameter.dtype).expand(parameter.shape), False)
            blank.blank = True  # type: ignore[attr-defined]
            setattr(module, name, blank)


def _is_blank(parameter: nn.Parameter) -> bool:
    return getattr(parameter, "blank", False)


def _equal(tensor: Tensor, other: Tensor) -> bool:
    return torch.equal(tensor, other.to(tensor))


def _width(tensors: Mapping[str, Tensor], model: PreTrainedModel) -> int | None:
    """The number of classes of a head stored with the factors, if it is not the base's."""
    there = model.state_dict()
    for key, tensor in tensors.items():
        wanted = there.get(key.removeprefix(PREFIX).replace("modules_to_save.", ""))
        if wanted is None or wanted.shape == tensor.shape or wanted.shape[1:] != tensor.shape[1:]:
            continue
        if len(wanted) == model.config.num_labels:
            return len(tensor)
    return None
