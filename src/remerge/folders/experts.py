"""The inputs of a merge of folders: the base, and each expert by the base's names."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remerge.checkpoints.architecture import HEADS, Unknown, child, model_of, on_meta, placed
from remerge.checkpoints.reading import Checkpoint, read_checkpoint
from remerge.checkpoints.stored import is_adapter, stored_tensors, weight_files
from remerge.deltas import Deltas, LowRank, State, Value
from remerge.errors import UserError
from remerge.files import read_json
from remerge.folders.output import check_modules


@dataclass(frozen=True)
class Expert:
    """An expert of a base.

    Attributes:
        values: its tensors by the base's names, or low-rank deltas of these.
        own: what the base has no place for, as a head, by the expert's own names.
        whole: whether it is a model, not an adapter: then it has every tensor.
    """

    values: Mapping[str, Value]
    own: Mapping[str, Tensor]
    whole: bool = True


def read_base(folder: Path) -> Checkpoint:
    """The base, by its architecture, or by the names in its files where transformers alone cannot make it."""
    weight_files(folder)
    try:
        return read_checkpoint(folder, model_of(folder))
    except Unknown as error:
        unknown = str(error)
    except UserError as error:
        # The architecture that transformers has under this name may be another than the folder's own code.
        if "auto_map" not in read_json(folder / "config.json"):
            raise
        unknown = str(error)
    print(f"remerge: {unknown}: merged by the names in its files, which all must share", file=sys.stderr)
    return Checkpoint(folder, None, stored_tensors(folder))


def read_expert(name: str, folder: Path, base: Checkpoint) -> Expert:
    """An expert's tensors by the base's names, or what its adapter makes of them.

    Raises:
        UserError: it is no expert of this base.
    """
    check_modules(base.folder, folder)
    if is_adapter(folder):
        # Imported here: PEFT takes a second, and most experts are whole models.
        from remerge.checkpoints.adapters import read_adapter

        adapter = read_adapter(folder, base)
        return Expert(adapter.values, adapter.own, whole=False)
    if base.model is None:
        stored = stored_tensors(folder)
        if odd := base.tensors.keys() ^ stored.keys():
            raise UserError(f"expert {name}: only it or the base has {min(odd)}: all names must be the same")
        return Expert(stored, {})
    try:
        model = model_of(folder)
    except Unknown as error:
        if (folder / "config.json").is_file():
            raise UserError(f"expert {name}: {error}, the base is a {type(base.model).__name__}") from None
        model = on_meta(type(base.model), base.model.config)
    return fitted(name, read_checkpoint(folder, model), base)


def fitted(name: str, found: Checkpoint, base: Checkpoint) -> Expert:
    """A whole model's tensors by the names of a base.

    Args:
        name: the expert's, for errors.
        found: its tensors, and its architecture.
        base: the base, of a known architecture.

    Raises:
        UserError: it is of another architecture.
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
        raise UserError(f"expert {name}: the base has no tensor {min(foreign)}: another architecture")
    same = {n for n, t in found.unread.items() if n in base.unread and torch.equal(t, base.unread[n])}
    unread = {n: t for n, t in found.unread.items() if n not in same}
    values: dict[str, Value] = {n: state[n] for n in base.tensors if n in state}
    if not values:
        raise UserError(f"{found.folder}: shares no tensor with the base: another architecture")
    for mine, n in there.items():
        if n in values and child(n, whole) in HEADS and state[n].shape != base.tensors[n].shape:
            own[mine] = state[n]
    return Expert(values, own | unread)


def kept(base: Checkpoint, experts: Mapping[str, Expert]) -> set[str]:
    """The tensors that stay the base's: parts that no expert has, and heads of other shapes.

    Raises:
        UserError: an expert lacks a tensor, in a part that is merged.
    """
    whole = {name: expert.values for name, expert in experts.items() if expert.whole}
    part = {n: child(n, base.model) for n in base.tensors}
    had = {part[n] for state in whole.values() for n in state if n in part}
    own = {*part.values()} - had if whole else set()
    for state in whole.values():
        own |= {part[n] for n, t in base.tensors.items() if n in state and state[n].shape != t.shape} & {
            *HEADS
        }
    say(own, "the experts differ in it or have none: the base's is kept")
    for expert, state in whole.items():
        missing = [n for n in base.tensors if n not in state and part[n] not in own]
        if missing:
            raise UserError(f"expert {expert}: tensor {min(missing)} is missing: not trained from this base?")
    return {n for n in base.tensors if part[n] in own}


def tied_by_value(base: Checkpoint, experts: Mapping[str, Expert]) -> Checkpoint:
    """A base that is known by names alone, without tensors that are the same twice in all folders.

    Such a pair is a tied one, or two that nothing has trained.
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


def say(parts: Collection[str], what: str) -> None:
    """A note on standard error."""
    if parts:
        print(f"remerge: {', '.join(sorted(parts))}: {what}", file=sys.stderr)


def deltas_of(base: State, experts: Mapping[str, Expert], device: torch.device) -> Deltas:
    """The deltas of the tensors that an expert has, in the widest dtype that a tensor has."""
    states = {name: expert.values for name, expert in experts.items()}
    changed = [n for n in base if any(n in state for state in states.values())]
    start: dict[str, Tensor] = {}
    placed: dict[str, dict[str, Value]] = {expert: {} for expert in states}
    for name in changed:
        values = {expert: state.get(name, base[name]) for expert, state in states.items()}
        dtype = base[name].dtype
        for value in values.values():
            dtype = torch.promote_types(dtype, value.dtype) if isinstance(value, Tensor) else dtype
        start[name] = base[name].to(device, dtype)
        for expert, value in values.items():
            placed[expert][name] = value.to(device) if isinstance(value, LowRank) else value.to(device, dtype)
    return Deltas(start, placed)
