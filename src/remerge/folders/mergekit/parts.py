"""The tensors of a model for which a mergekit file asks the same: their models, method and settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.stored import is_adapter
from remerge.deltas import Deltas, Merged
from remerge.errors import UserError
from remerge.folders.mergekit.file import Asked, Slice
from remerge.folders.mergekit.places import Places, anywhere
from remerge.folders.mergekit.translations import METHODS, Settings
from remerge.folders.mergekit.values import filters_in, value_at
from remerge.headers import weights
from remerge.methods import Method, find, per_expert
from remerge.notes import note

PASSTHROUGH: dict[str, Any] = {
    "name": "passthrough",
    "citation": "Goddard et al., 2024, arXiv:2403.13257",
    "summary": "the weights as they are, times `scale`.",
}
"""What is said of task arithmetic from zero, with one model."""

DESCRIBED = (
    "Apertus Arcee Cohere Cohere2 Exaone Falcon Gemma Gemma2 Gemma3 Glm4 Glm4Moe GPTNeoX GPTBigCode Granite "
    "Lfm2 Llama Mistral Mixtral Olmo2 Phi Phi3 Qwen2 Qwen3 Qwen3Moe Solar StableLm Starcoder2"
)
"""The decoders of which mergekit 0.1.5 has files that say what follows the layers."""

Resolved = tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, dict[str, Any]]]
"""The parameters of a tensor: for all models, each model's own, and those for all as they are for each."""


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

    @property
    def sparse(self) -> bool:
        """Whether it keeps some entries of a task vector, and not all."""
        return min(per_expert(self.settings.get("density", 1.0), self.experts, "density")) < 1

    @property
    def random(self) -> bool:
        """Whether these are drawn."""
        return self.sparse and "seed" in self.settings


def parts_of(asked: Asked, base: Checkpoint, folders: Mapping[str, Path], seed: int | None) -> list[Part]:
    """The parts of a model, each with what a file says of its tensors.

    Args:
        asked: what a file asks for.
        base: the base, with the layers of the merge.
        folders: where each model is.
        seed: the seed of random masks, by default 0.

    Raises:
        UserError: the file asks for something that remerge does not do, or there are no masks for a seed.
    """
    if base.model is None and len(asked.slices) > 1:
        raise UserError(f"{asked.where}: slices: not of one known stack of layers: list whole models")
    places = Places(asked, [*base.tensors, *base.ties] if base.model is None else base.model.state_dict())
    given = {name: _resolved(asked, name, places, places.slice(name)) for name in [*base.tensors, *base.ties]}
    stored = {source: _stored(base.folder if is_adapter(f) else f) for source, f in folders.items()}
    _check_heads(asked, base, places, stored)
    for alias, held in base.ties.items():
        if given[alias] != given[held] and anywhere(alias) in set().union(*stored.values()):
            raise UserError(
                f"{asked.where}: {alias} is tied to {held}, for which the file says something else: "
                "give both the same values"
            )
    _check_filters(asked, base)
    _note_on_ends(asked, base, places, given)
    alike: dict[str, list[str]] = {}
    for name in base.tensors:
        alike.setdefault(repr(given[name]), []).append(name)
    parts = [_part(asked, names, *given[names[0]], seed, among=len(alike)) for names in alike.values()]
    _check_rows(asked, base, parts)
    return parts


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
        made |= dict.fromkeys(own, part.method.merge(own, part.settings))
    return (next(made[name]) for name in deltas)


def _resolved(asked: Asked, name: str, places: Places, own: Slice) -> Resolved:
    """The parameters of one tensor, by a slice."""
    t = places.depth(name)
    there = {model: places.name_in(model, name) for model in own.models}

    def found(given: Mapping[str, Any], name: str) -> dict[str, Any]:
        values = {key: value_at(value, name, t) for key, value in given.items()}
        return {key: value for key, value in values.items() if value is not None}

    def shared(name: str) -> dict[str, Any]:
        return {**found(asked.shared, name), **found(own.shared, name)}

    models = {model: found(values, there[model]) for model, values in own.models.items()}
    return shared(name), models, {model: shared(there[model]) for model in own.models}


def _stored(folder: Path) -> set[str]:
    """What the names of stored tensors have in common in all layers."""
    return set(map(anywhere, weights(str(folder.resolve()))))


def _check_heads(asked: Asked, base: Checkpoint, places: Places, stored: Mapping[str, set[str]]) -> None:
    """Refuse what the base has of its own, and no model stores where it is merged."""
    for name in (name for name in base.tensors if name in stored[asked.base]):
        if not any(name in stored[source] for source in places.models(name)):
            raise UserError(
                f"{asked.where}: slices: {asked.base} has a {name} of its own, and no model of its slice "
                "stores one, so that mergekit writes none: list one there that does"
            )


def _note_on_ends(asked: Asked, base: Checkpoint, places: Places, given: Mapping[str, Resolved]) -> None:
    """Notes on what follows the layers, where mergekit may take it from elsewhere."""
    after = sorted(places.after & base.tensors.keys())
    first, last = asked.slices[0], asked.slices[-1]
    described = type(base.model).__name__.removesuffix("ForCausalLM") in DESCRIBED.split()
    other = [name for name in after if _resolved(asked, name, places, first) != given[name]]
    if other and not described:
        note(
            f"{asked.where}: {', '.join(other)}: of the last slice here; of the first in mergekit, where it "
            "has no file of its own for the architecture, as for OLMo"
        )
    if after and len(first.starts) < len(last.starts):
        note(
            f"{asked.where}: {', '.join(after)}: of all models of the last slice here; mergekit takes as "
            f"many as the first slice has, {len(first.starts)}"
        )


def _check_rows(asked: Asked, base: Checkpoint, parts: Sequence[Part]) -> None:
    """Refuse tensors whose entries mergekit ranks by other rows than remerge: along the second dimension."""
    for part in parts:
        for name in part.names:
            if part.random and part.method.name == "della" and base.tensors[name].ndim > 2:
                raise UserError(
                    f"{asked.where}: density: {name} has more than two dimensions, and {asked.method} in "
                    f"mergekit ranks along the second: keep it whole ({{filter: {name}, value: 1}}), or use "
                    "a method with dare"
                )


def _check_filters(asked: Asked, base: Checkpoint) -> None:
    """Refuse filters of names that mergekit may have otherwise; a note on those that are in no name."""
    given = [asked.shared, *(s.shared for s in asked.slices)]
    given += [own for s in asked.slices for own in s.models.values()]
    filters = dict.fromkeys(filters_in(given))
    if not filters:
        return
    stored = _stored(base.folder)
    for name in base.tensors:
        if stored.isdisjoint((anywhere(name), anywhere(name.partition(".")[2]))):
            raise UserError(
                f"{asked.where}: filter: {name} is stored under another name, and mergekit may go by either: "
                "leave filters out"
            )
    for part in filters:
        if not any(part in name for name in [*base.tensors, *base.ties]):
            note(f"{asked.where}: filter {part}: in the name of no tensor")


def _part(
    asked: Asked,
    names: list[str],
    shared: dict[str, Any],
    models: dict[str, dict[str, Any]],
    for_each: dict[str, dict[str, Any]],
    seed: int | None,
    among: int,
) -> Part:
    where = f"{asked.where}: {names[0]}" if among > 1 else str(asked.where)
    own = {model: dict(values) for model, values in models.items()}
    settings = Settings(where, asked.named_base, dict(shared), own, for_each)
    name, params = METHODS[asked.method](settings)
    method = replace(find(name), **PASSTHROUGH) if asked.method == "passthrough" else find(name)
    settings.done(method.name)
    if "seed" in method.parameters:
        params["seed"] = seed or 0
    elif seed is not None:
        raise UserError(f"{asked.where}: {asked.method} draws no random masks: leave --seed out")
    try:
        return Part(names, list(models), method, method.alone(params))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
