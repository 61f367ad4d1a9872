"""Layers that are moved, repeated or left out: every model is seen with the layers of the merge.

What is merged then are models of one size, under the names of the merge.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from remerge.checkpoints.architecture import Unknown, model_of, on_meta
from remerge.checkpoints.models import locate
from remerge.checkpoints.reading import Checkpoint, read_checkpoint
from remerge.checkpoints.stored import is_adapter
from remerge.deltas import State
from remerge.errors import UserError
from remerge.files import read_settings
from remerge.folders.experts import Expert, fitted, kept
from remerge.folders.inputs import Inputs
from remerge.folders.mergekit.file import WITHOUT_A_BASE, Asked, Slice
from remerge.folders.mergekit.places import Places, anywhere, layer_in
from remerge.folders.output import check_modules
from remerge.headers import weights

NUMBERS = ("layer_idx", "layer_id", "layer_index", "layer_number", "block_idx")
"""The attributes in which modules keep the number of their layer, by which they find their cache."""

BY_NUMBER = "scale_attn_by_inverse_layer_idx"
"""GPT-2's setting by which a layer's attention depends on the number that it has when it runs."""


def stay(asked: Asked, folders: Iterable[Path]) -> bool:
    """Whether all layers of all models stay where they are."""
    if asked.slices[-1].last is None:
        return True
    if any(start != s.first for s in asked.slices for start in s.starts.values()):
        return False
    names = (weights(str(folder.resolve())) for folder in folders if not is_adapter(folder))
    return all([*_stacks(own).values()] == [asked.slices[-1].last] for own in names)


@dataclass(frozen=True)
class _Model:
    """A model as it is stored.

    Attributes:
        own: its weights and architecture.
        stack: where its layers are.
        count: how many there are.
    """

    own: Checkpoint
    stack: str
    count: int


def stacked(asked: Asked, sources: Mapping[str, str]) -> Inputs:
    """The models with the layers of the merge.

    Args:
        asked: what a file asks for.
        sources: the experts by name.

    Raises:
        UserError: one has not one stack of layers, or fewer than the file names, or layers that differ by
            their place; or it cannot be read, or is not like the others.
    """
    models = {source: _read(asked, source) for source in dict.fromkeys([asked.base, *sources.values()])}
    _check(asked, models)
    settings = _settings(asked, models)
    seen = {source: _seen(asked, source, model, settings) for source, model in models.items()}
    base = replace(seen[asked.base], ties=models[asked.base].own.ties)
    made: Any = base.model
    shapes: State = made.state_dict()
    places, known = Places(asked, shapes), set(map(anywhere, models[asked.base].own.tensors))
    _check_ties(asked, base, places, models)
    # Where the base is not merged, it has no weights yet, only shapes.
    tensors = {
        name: base.tensors.get(name, shape)
        for name, shape in shapes.items()
        if name in base.tensors or (anywhere(name) in known and not places.has(asked.base, name))
    }
    whole = replace(base, tensors=tensors)
    read = {name: fitted(name, seen[source], whole) for name, source in sources.items()}
    filled = {name: _filled(expert, sources[name], tensors, places) for name, expert in read.items()}
    still = kept(whole, filled)
    if odd := sorted(still.union(*(expert.own for expert in read.values()))):
        raise UserError(f"{asked.where}: slices: not every model has {odd[0]}: give models of one kind")
    names = {source: name for name, source in sources.items()}
    for name, theta in tensors.items():
        if theta.is_meta:
            first: Any = read[names[next(iter(places.slice(name).starts))]].values[name]
            tensors[name] = _blank(first, theta.shape)
    return Inputs(whole, read, set(), settings)


def _blank(theta: Tensor, shape: torch.Size) -> Tensor:
    """Zeros in place of a base's weights, from which a merge does not start; what is not merged, as it is."""
    return torch.zeros((), dtype=theta.dtype).expand(shape) if theta.is_floating_point() else theta.clone()


def from_nothing(inputs: Inputs) -> Inputs:
    """The same models, merged from zero, so that an expert's weights are its task vector."""
    tensors = {n: t if n in inputs.still else _blank(t, t.shape) for n, t in inputs.base.tensors.items()}
    return replace(inputs, base=replace(inputs.base, tensors=tensors))


def _read(asked: Asked, source: str) -> _Model:
    folder = locate(source)
    try:
        model: Any = model_of(folder)
    except Unknown as error:
        raise UserError(f"{asked.where}: slices: {error}: list whole models") from None
    own = read_checkpoint(folder, model)
    stacks = _stacks(own.tensors)
    tied = any(layer_in(name) for pair in own.ties.items() for name in pair)
    if tied or [*stacks.values()] != [getattr(model.config, "num_hidden_layers", None)]:
        raise UserError(
            f"{asked.where}: slices: {source} is not one stack of layers, each with its own weights: "
            "list whole models"
        )
    if getattr(model.config, BY_NUMBER, False):
        raise UserError(
            f"{asked.where}: slices: {source}'s layers compute by their number: list whole models"
        )
    ((stack, count),) = stacks.items()
    return _Model(own, stack, count)


def _stacks(names: Iterable[str]) -> dict[str, int]:
    """The number of layers of each stack."""
    made: dict[str, int] = {}
    for stack, layer in filter(None, map(layer_in, names)):
        made[stack] = max(made.get(stack, 0), layer + 1)
    return made


def _check(asked: Asked, models: Mapping[str, _Model]) -> None:
    """Refuse layers that a model has not, and what would start from a base that is not there."""
    kind = _config(models[asked.base]).model_type
    for source, model in models.items():
        if (own := _config(model).model_type) != kind:
            raise UserError(f"{asked.where}: {source} is a {own}, {asked.base} a {kind}: give one kind")
        check_modules(models[asked.base].own.folder, model.own.folder)
    for k, own in enumerate(asked.slices):
        for source, start in own.starts.items():
            end, count = start + _length(own), models[source].count
            if end > count:
                raise UserError(
                    f"{asked.where}: slices.{k}: layer_range ends at {end}, and {source} has {count} layers: "
                    "end there"
                )
        if asked.named_base and asked.method not in WITHOUT_A_BASE and asked.named_base not in own.starts:
            raise UserError(
                f"{asked.where}: slices.{k}.sources: {asked.method} starts from the base: list it with its "
                "layer_range"
            )


def _check_ties(asked: Asked, base: Checkpoint, places: Places, models: Mapping[str, _Model]) -> None:
    """Refuse a head of its own where the base has none."""
    for alias, held in base.ties.items():
        for source in places.slice(alias).starts:
            if alias in models[source].own.tensors:
                raise UserError(
                    f"{asked.where}: {source} has a {alias} of its own, which {asked.base} ties to {held}: "
                    "name a base_model that is untied"
                )


def _length(own: Slice) -> int:
    assert own.last is not None
    return own.last - own.first


def _config(model: _Model) -> Any:
    whole: Any = model.own.model
    return whole.config


def _taken(asked: Asked) -> list[tuple[str, int]]:
    """For each layer of the merge, the model and its layer whose settings it has: the base, or the first."""
    made: list[tuple[str, int]] = []
    for own in asked.slices:
        source = asked.base if asked.base in own.starts else next(iter(own.starts))
        made += [(source, own.starts[source] + i) for i in range(_length(own))]
    return made


def _settings(asked: Asked, models: Mapping[str, _Model]) -> dict[str, Any]:
    """The settings of the merge that are not the base's: how many layers, and what kind each is."""
    taken, base = _taken(asked), _config(models[asked.base])
    made: dict[str, Any] = {base.attribute_map.get("num_hidden_layers", "num_hidden_layers"): len(taken)}
    given = {source: _config(model).to_dict() for source, model in models.items()}
    for name in given[asked.base]:
        own = {source: settings.get(name) for source, settings in given.items()}
        right = all(isinstance(value, list) and len(value) == models[s].count for s, value in own.items())
        if right and "layer" in name:
            made[name] = [own[source][layer] for source, layer in taken]
    return made


def _seen(asked: Asked, source: str, model: _Model, settings: Mapping[str, Any]) -> Checkpoint:
    """A model with the layers of the merge, those tensors that are merged there."""
    own = model.own
    whole: Any = own.model
    config = type(whole.config).from_dict({**read_settings(own.folder / "config.json"), **settings})
    config.name_or_path = str(own.folder)
    made: Any = on_meta(type(whole), config)
    made._weight_conversions = whole._weight_conversions
    for i, (other, layer) in enumerate(_taken(asked)):
        if other == source:
            here, given = (m.get_submodule(f"{model.stack}.{n}") for m, n in ((made, i), (whole, layer)))
            if odd := _unlike(here, given):
                raise UserError(
                    f"{asked.where}: slices: layer {layer} of {source} would be of another kind as layer {i} "
                    f"of the merge ({odd}): leave it in its place"
                )
    places, reads, uses = Places(asked, made.state_dict()), [own], Counter[str]()
    tensors: dict[str, Tensor] = {}
    for name in made.state_dict():
        there = places.name_in(source, name)
        if not places.has(source, name) or there not in own.tensors:
            continue
        # Tensors of a base that share memory would be taken for tied: a repeated layer is read anew.
        again = uses[there] if source == asked.base else 0
        if again == len(reads):
            reads.append(read_checkpoint(own.folder, whole))
        tensors[name] = reads[again].tensors[there]
        uses[there] += 1
    for alias, held in own.ties.items():
        if held not in tensors and places.has(source, alias):
            tensors[alias] = own.tensors[held]
    return Checkpoint(own.folder, made, tensors, {a: h for a, h in own.ties.items() if h in tensors})


def _unlike(made: nn.Module, given: nn.Module) -> str | None:
    """What differs between two layers besides the values of their weights, and their numbers."""
    mine, theirs = _traits(made), _traits(given)
    return min((n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n)), default=None)


def _traits(layer: nn.Module) -> dict[str, Any]:
    """The shapes of weights, and the classes and plain settings of modules, by name."""
    made: dict[str, Any] = {name: tensor.shape for name, tensor in layer.state_dict().items()}
    for path, module in layer.named_modules():
        plain = {n: v for n, v in vars(module).items() if isinstance(v, bool | int | float | str)}
        for name, value in {**plain, "class": type(module)}.items():
            if name not in (*NUMBERS, "training"):
                made[f"{path}.{name}".strip(".")] = value
    return made


def _filled(expert: Expert, source: str, whole: State, places: Places) -> Expert:
    """An expert with the base's tensors where it is not merged."""
    others = {name: theta for name, theta in whole.items() if not places.has(source, name)}
    return replace(expert, values={**others, **expert.values})
