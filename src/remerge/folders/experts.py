"""Bases and experts as a merge of folders needs them: each expert under the base's names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from remerge.checkpoints.architecture import HEADS, INNER, Unknown, child, model_of, on_meta, placed, unlike
from remerge.checkpoints.models import locate
from remerge.checkpoints.reading import Checkpoint, read_checkpoint
from remerge.checkpoints.stored import is_adapter, other_base, stored_tensors, weight_files
from remerge.deltas import Deltas, LowRank, State, Value
from remerge.errors import UserError
from remerge.files import read_settings
from remerge.folders.output import check_modules
from remerge.notes import note, note_on


@dataclass(frozen=True)
class Expert:
    """An expert of a base.

    Attributes:
        values: its tensors under the base's names, or low-rank deltas of these.
        own: tensors that the base has no place for, such as a head, under the expert's own names.
        whole: whether it is a model with every tensor, not an adapter.
        classes: the names of its head's classes, if it names them.
    """

    values: Mapping[str, Value]
    own: Mapping[str, Tensor]
    whole: bool = True
    classes: tuple[str, ...] = ()


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""A name that an expert is given: it becomes part of file names."""


def name_in(written: str) -> tuple[str, str]:
    """The name and the folder of an expert: ``name=folder``, or a folder, in whose name may be an = too.

    Raises:
        UserError: the name has other letters.
    """
    name, equals, source = written.partition("=")
    if not equals or "/" in name or Path(written).is_dir():
        return "", written
    if not NAME.fullmatch(name):
        raise UserError(f"--expert {written}: a name has only letters, digits, _ and -: write name=folder")
    return name, source


def read_base(source: str) -> Checkpoint:
    """The base by its architecture, or by the names in its files if transformers alone cannot make it.

    Args:
        source: a folder of safetensors, or a hub id.

    Raises:
        UserError: it is an adapter, or cannot be read.
    """
    folder = locate(source)
    if is_adapter(folder):
        raise UserError(f"{source} is an adapter: give the model that it was trained on as --base")
    weight_files(folder)
    try:
        return read_checkpoint(folder, model_of(folder))
    except Unknown as error:
        unknown = str(error)
    except UserError as error:
        # The architecture that transformers has under this name may differ from the folder's own code.
        if "auto_map" not in read_settings(folder / "config.json"):
            raise
        unknown = str(error)
    note(f"{unknown}: merged by the names in the files, which must all agree")
    return Checkpoint(folder, None, stored_tensors(folder))


def read_expert(name: str, folder: Path, base: Checkpoint) -> Expert:
    """An expert's tensors under the base's names, or its adapter's changes to them.

    Raises:
        UserError: it is not an expert of this base.
    """
    check_modules(base.folder, folder)
    if is_adapter(folder):
        # Imported here: PEFT takes a second, and most experts are whole models.
        from remerge.checkpoints.adapters import read_adapter

        named = other_base(folder, base.folder)
        note_on(named, f"the base of {name}: merged into the given one all the same")
        adapter = read_adapter(folder, base)
        return Expert(adapter.values, adapter.own, whole=False)
    if base.model is None:
        stored = stored_tensors(folder)
        if odd := base.tensors.keys() ^ stored.keys():
            raise UserError(
                f"expert {name}: only it or the base has {min(odd)}: give an expert with the base's tensors"
            )
        return Expert(stored, {})
    try:
        model = model_of(folder)
    except Unknown as error:
        if (folder / "config.json").is_file():
            raise UserError(
                f"expert {name}: {error}, and the base is a {type(base.model).__name__}: give an expert of it"
            ) from None
        model = on_meta(type(base.model), base.model.config)
    return fitted(name, read_checkpoint(folder, model), base)


def fitted(name: str, found: Checkpoint, base: Checkpoint) -> Expert:
    """A whole model's tensors under the names of a base.

    Args:
        name: the expert's name, for error messages.
        found: its tensors, and its architecture.
        base: the base, of a known architecture.

    Raises:
        UserError: it has another architecture.
    """
    model: Any = found.model
    whole: Any = base.model
    try:
        there = placed([*found.tensors, *found.ties], model, whole)
    except UserError as error:
        raise UserError(f"expert {name}: {error}") from None
    state = {there[n]: found.tensors[found.ties.get(n, n)] for n in there}
    for alias, held in base.ties.items():
        if alias in state and not torch.equal(state[alias], state.setdefault(held, state[alias])):
            raise UserError(
                f"expert {name}: {alias} differs from {held}, to which the base ties it: give a base that is "
                "untied (tie_word_embeddings false in config.json, both tensors stored)"
            )
    own = {n: t for n, t in found.tensors.items() if n not in there}
    inside = {child(n, whole) for n in base.tensors}
    foreign = [n for n in own if child(n, model) in inside]
    if foreign:
        raise UserError(f"expert {name}: the base has no tensor {min(foreign)}: give an expert of this base")
    same = {n for n, t in found.unread.items() if n in base.unread and torch.equal(t, base.unread[n])}
    unread = {n: t for n, t in found.unread.items() if n not in same}
    values: dict[str, Value] = {n: state[n] for n in base.tensors if n in state}
    if not values:
        raise UserError(f"expert {name}: it shares no tensor with the base: give an expert of this base")
    for mine, n in there.items():
        if n in values and child(n, whole) in HEADS and state[n].shape != base.tensors[n].shape:
            own[mine] = state[n]
    note_on(unlike(model.config, whole.config), f"not the same in {name}: the base's is kept")
    return Expert(values, own | unread, classes=_classes(model))


def kept(base: Checkpoint, experts: Mapping[str, Expert]) -> set[str]:
    """The tensors that stay as in the base: parts that no expert has, and heads of other shapes or classes.

    Raises:
        UserError: an expert lacks a tensor of a part that is merged.
    """
    whole = {name: expert.values for name, expert in experts.items() if expert.whole}
    part = {n: child(n, base.model) for n in base.tensors}
    had = {part[n] for state in whole.values() for n in state if n in part}
    own = {*part.values()} - had if whole else set()
    for state in whole.values():
        own |= {part[n] for n, t in base.tensors.items() if n in state and state[n].shape != t.shape} & {
            *HEADS
        }
    if len({_classes(base.model), *(expert.classes for expert in experts.values())} - {()}) > 1:
        own |= {*part.values()} & {*HEADS} - {*INNER}
    note_on(own, "missing from the experts, or of other shapes or classes in them: the base's is kept")
    for expert, state in whole.items():
        missing = [n for n in base.tensors if n not in state and part[n] not in own]
        if missing:
            raise UserError(f"expert {expert}: tensor {min(missing)} is missing: give an expert of this base")
    return {n for n in base.tensors if part[n] in own}


def _classes(model: PreTrainedModel | None) -> tuple[str, ...]:
    """The names of a head's classes, in order; none if they are only numbered."""
    names = (model.config.id2label or {}) if model is not None else {}
    classes = tuple(str(name).casefold() for _, name in sorted(names.items()))
    return () if any(re.fullmatch(r"label_\d+", name) for name in classes) else classes


def apart(expert: Expert, still: set[str], base: State) -> Expert:
    """An expert that keeps, as its own, what it has of tensors that stay as in the base."""
    own = dict(expert.own)
    for name in still & expert.values.keys():
        value = expert.values[name]
        own.setdefault(name, value.dense().add_(base[name]) if isinstance(value, LowRank) else value)
    return replace(expert, own=own)


def tied_by_value(base: Checkpoint, experts: Mapping[str, Expert]) -> Checkpoint:
    """A base known only by names, without tensors that equal an earlier one in all folders.

    Such a pair is tied, or nothing has trained it.
    """
    ties: dict[str, str] = {}
    first: dict[Any, list[str]] = {}
    states: list[Mapping[str, Any]] = [base.tensors, *(expert.values for expert in experts.values())]
    for name, tensor in base.tensors.items():
        alike = first.setdefault((tensor.shape, tensor.dtype), [])
        held = next((n for n in alike if all(torch.equal(state[n], state[name]) for state in states)), None)
        if held is None:
            alike.append(name)
        else:
            ties[name] = held
    return replace(base, tensors={n: t for n, t in base.tensors.items() if n not in ties}, ties=ties)


def deltas_of(base: State, experts: Mapping[str, Expert], device: torch.device) -> Deltas:
    """The deltas of the tensors that any expert has, in the widest dtype of each tensor."""
    states = {name: expert.values for name, expert in experts.items()}
    changed = [n for n in base if any(n in state for state in states.values())]
    start: dict[str, Tensor] = {}
    placed: dict[str, dict[str, Value]] = {expert: {} for expert in states}
    for name in changed:
        values = {expert: state[name] for expert, state in states.items() if name in state}
        dtype = base[name].dtype
        for value in values.values():
            dtype = torch.promote_types(dtype, value.dtype) if isinstance(value, Tensor) else dtype
        start[name] = base[name].to(device, dtype)
        for expert in states:
            value = values.get(expert, start[name])
            placed[expert][name] = value.to(device) if isinstance(value, LowRank) else value.to(device, dtype)
    return Deltas(start, placed, base)
