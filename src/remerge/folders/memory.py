"""One merge of models in memory, as `from_pretrained` and PEFT return them."""

import math
import re
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from transformers import PreTrainedModel

from remerge.checkpoints.adapters import read_adapter
from remerge.checkpoints.models import held
from remerge.checkpoints.reading import Checkpoint
from remerge.deltas import added, rounded, without_tf32
from remerge.errors import UserError, cause_of
from remerge.folders.experts import Expert, deltas_of, fitted, kept
from remerge.methods import contained, find
from remerge.notes import note_on


@torch.no_grad()
@without_tf32()
def merge_models(
    name: str, base: Any, experts: Mapping[str, Any], params: Mapping[str, Any]
) -> PreTrainedModel:
    """Merge models of one base into a new one; the given models stay as they are.

    Parts that only one expert has, such as a classifier's head, are not merged: the base's is kept, as a note
    on standard error says.

    Args:
        name: a method that needs only the weights.
        base: the pretrained model.
        experts: models of the base's architecture, or PEFT's adapters of it, by name.
        params: the method's parameters.

    Raises:
        UserError: an unknown method or parameter, or models that do not fit.
    """
    chosen = find(name)
    settings = chosen.alone(params)
    if not isinstance(base, PreTrainedModel):
        raise UserError(
            f"the base is a {type(base).__name__}: give a transformers model or a state dict; folders are "
            "merged by `remerge merge`"
        )
    if any(".base_layer." in n for n in base.state_dict()):
        raise UserError(
            "the base has adapters: load it again, as PEFT puts its layers into the model that it is given"
        )
    whole = _held(base)
    read = {expert: _read(expert, model, whole) for expert, model in experts.items()}
    still = kept(whole, read)
    for expert, found in read.items():
        note_on({n.rpartition(".")[0] for n in found.own}, f"only in {expert}: not merged")
    weights = deltas_of({n: t for n, t in whole.tensors.items() if n not in still}, read, base.device)
    made: Any = deepcopy(base)
    places = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    with contained(name, weights):
        for tensor, delta in chosen.merge(weights, settings):
            theta = places[tensor]
            theta.copy_(rounded(tensor, added(weights.base[tensor], delta), theta.dtype))
    merged: PreTrainedModel = made.eval()
    return merged


def _held(model: Any) -> Checkpoint:
    """A model as a checkpoint with its stored buffers, such as a batch norm's means, as a folder has them."""
    found, stored = held(model), model.state_dict()
    # Whole numbers, such as a count of batches, are the base's in a merge of folders, too.
    buffers = {n: b for n, b in model.named_buffers() if n in stored and b.is_floating_point()}
    tensors = {**found.tensors, **buffers}
    return replace(found, tensors={n: tensors[n] for n in stored if n in tensors})


def _read(name: str, model: Any, base: Checkpoint) -> Expert:
    """A model's tensors under the base's names, or its adapter's changes to them."""
    if isinstance(model, PeftModel):
        return _adapter(name, model, base)
    if isinstance(model, PreTrainedModel):
        return fitted(name, _held(model), base)
    raise UserError(f"expert {name} is a {type(model).__name__}: give a transformers or PEFT model")


def _adapter(name: str, model: PeftModel, base: Checkpoint) -> Expert:
    """The changes of a model's active adapter.

    It is saved by PEFT first, so that it is read, and refused, like any folder; an adapter is small.
    """
    _must_be_as_saved(name, model)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model.save_pretrained(folder, selected_adapters=[model.active_adapter])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise UserError(
                f"expert {name}: PEFT cannot save its adapter {model.active_adapter} ({cause_of(error)}): "
                "load it alone"
            ) from None
        own = Path(folder, model.active_adapter)
        place = own if own.is_dir() else Path(folder)
        try:
            adapter = read_adapter(place, base)
        except UserError as error:
            where = rf"{re.escape(str(place))}(/adapter_config\.json)?"
            raise UserError(re.sub(where, lambda _: f"expert {name}", str(error))) from None
    return Expert(adapter.values, adapter.own, whole=False)


def _must_be_as_saved(name: str, model: PeftModel) -> None:
    """Refuse a model that computes otherwise than with its one active adapter as PEFT saves it.

    Raises:
        UserError: several adapters are active, or the active one is disabled or scaled.
    """
    if not isinstance(model.base_model, BaseTuner):
        return
    active = model.base_model.active_adapters
    if len(active) > 1:
        both = ", ".join(active)
        raise UserError(
            f"expert {name}: several adapters are active ({both}): give each as an expert, or set_adapter one"
        )
    for path, layer in model.get_base_model().named_modules():
        if isinstance(layer, BaseTunerLayer):
            if layer.disable_adapters:
                raise UserError(f"expert {name}: its adapter is disabled: enable it, or leave the expert out")
            if _is_scaled(layer, active[0]):
                raise UserError(
                    f"expert {name}: its adapter is scaled in {path}, which PEFT does not save: unscale it, "
                    "and weight the expert by the method's parameters"
                )


def _is_scaled(layer: Any, adapter: str) -> bool:
    """Whether a factor was set on a layer's low-rank delta after it was trained."""
    alpha = getattr(layer, "lora_alpha", None) or getattr(layer, "alpha", {})
    if isinstance(layer, AdaLoraLayer) or adapter not in alpha:
        return False
    rank = layer.r[adapter]
    stable = getattr(layer, "use_rslora", {}).get(adapter, False)
    first = alpha[adapter] / (math.sqrt(rank) if stable else rank)
    return not math.isclose(layer.scaling[adapter], first, rel_tol=1e-6)
