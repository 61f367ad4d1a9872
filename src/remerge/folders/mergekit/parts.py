"""The tensors of a model for which a mergekit file asks the same: their models, method and settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remerge.checkpoints.reading import Checkpoint
from remerge.deltas import Deltas, Merged, layer_of
from remerge.errors import UserError
from remerge.folders.mergekit.file import Asked, Slice
from remerge.folders.mergekit.translations import METHODS, Settings
from remerge.folders.mergekit.values import filters_in, value_at
from remerge.headers import weights
from remerge.methods import Method, find
from remerge.notes import note


@dataclass(frozen=True)
class Part:
    """Tensors that one method merges with the same settings.

    Attributes:
        names: the tensors.
        experts: the models that are merged there, in the order of the settings.
        method: the method.
        settings: all its parameters.
    """

    names: list[str]
    experts: list[str]
    method: Method
    settings: dict[str, Any]


def parts_of(asked: Asked, base: Checkpoint) -> list[Part]:
    """The parts of a model, each with what a file says of its tensors.

    Raises:
        UserError: the file asks for something that remerge does not do, or its layers are not the model's.
    """
    depths = _Depths(asked, base)
    given = {name: _resolved(asked, name, *depths.place(name)) for name in [*base.tensors, *base.ties]}
    stored = weights(str(base.folder.resolve()))
    for alias, held in base.ties.items():
        if given[alias] != given[held] and alias in stored:
            raise UserError(
                f"{asked.where}: {alias} is tied to {held}, for which the file says something else: "
                "give both the same values"
            )
    _check_filters(asked, base, stored)
    first = {name: _resolved(asked, name, asked.slices[0], 0.0) for name in depths.after}
    if after := sorted(name for name, own in first.items() if own != given[name]):
        note(
            f"{asked.where}: {', '.join(after)}: of the last slice here; of the first in mergekit, where it "
            "has no file of its own for the architecture, as for OLMo"
        )
    alike: dict[str, list[str]] = {}
    for name in base.tensors:
        alike.setdefault(repr(given[name]), []).append(name)
    return [_part(asked, names, *given[names[0]], among=len(alike)) for names in alike.values()]


def merged_parts(parts: list[Part], deltas: Deltas, experts: Mapping[str, str]) -> Merged:
    """The merged deltas of every tensor, by the part that it is in.

    Args:
        parts: the parts.
        deltas: the deltas of all models.
        experts: the name that each model has there.
    """
    made: dict[str, Merged] = {}
    for part in parts:
        own = deltas.subset([experts[model] for model in part.experts], part.names)
        made |= dict.fromkeys(own, part.method.function(own, **part.settings))
    return (next(made[name]) for name in deltas)


class _Depths:
    """Where tensors are: the slice of a file, and the depth of their layer in it."""

    def __init__(self, asked: Asked, base: Checkpoint) -> None:
        self.slices = asked.slices
        self.layers: dict[str, int] = {}
        self.after = set[str]()
        for name in base.tensors:
            stack, _, number = layer_of(name).rpartition(".")
            if number.isdigit():
                self.layers[stack] = max(self.layers.get(stack, 0), int(number) + 1)
            elif self.layers:
                self.after.add(name)
        if self.slices[-1].last is None:
            return
        counts = list(self.layers.values())
        if len(counts) != 1 or (base.model is None and len(self.slices) > 1):
            raise UserError(f"{asked.where}: slices: not of one known stack of layers: list whole models")
        if self.slices[-1].last != counts[0]:
            raise UserError(
                f"{asked.where}: slices.{len(self.slices) - 1}: layer_range ends at {self.slices[-1].last}, "
                f"and the model has {counts[0]} layers: end there"
            )

    def place(self, name: str) -> tuple[Slice, float]:
        """The slice of a tensor, and its depth from 0 to 1, as mergekit has it: 0 outside of layers."""
        stack, _, number = layer_of(name).rpartition(".")
        if not number.isdigit():
            return self.slices[-1 if name in self.after else 0], 0.0
        layer = int(number)
        own = next(s for s in self.slices if s.last is None or layer < s.last)
        others = (self.layers[stack] if own.last is None else own.last) - own.first - 1
        return own, (layer - own.first) / others if others else 1.0


def _resolved(
    asked: Asked, name: str, own: Slice, t: float
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The parameters of one tensor: those for all models, and each model's own."""

    def found(given: Mapping[str, Any]) -> dict[str, Any]:
        values = {key: value_at(value, name, t) for key, value in given.items()}
        return {key: value for key, value in values.items() if value is not None}

    models = {model: found(values) for model, values in own.models.items()}
    return {**found(asked.shared), **found(own.shared)}, models


def _check_filters(asked: Asked, base: Checkpoint, stored: Mapping[str, Any]) -> None:
    """Refuse filters of names that mergekit may have otherwise; a note on those that are in no name."""
    given = [asked.shared, *(s.shared for s in asked.slices)]
    given += [own for s in asked.slices for own in s.models.values()]
    filters = dict.fromkeys(filters_in(given))
    if not filters:
        return
    for name in base.tensors:
        if name not in stored and name.partition(".")[2] not in stored:
            raise UserError(
                f"{asked.where}: filter: {name} is stored under another name, and mergekit may go by either: "
                "leave filters out"
            )
    for part in filters:
        if not any(part in name for name in [*base.tensors, *base.ties]):
            note(f"{asked.where}: filter {part}: in the name of no tensor")


def _part(
    asked: Asked, names: list[str], shared: dict[str, Any], models: dict[str, dict[str, Any]], among: int
) -> Part:
    where = f"{asked.where}: {names[0]}" if among > 1 else str(asked.where)
    settings = Settings(where, asked.named_base, dict(shared), {m: dict(own) for m, own in models.items()})
    name, params = METHODS[asked.method](settings)
    settings.done(name)
    method = find(name)
    try:
        return Part(names, list(models), method, method.alone(params))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
