"""What a mergekit file says: the models of each run of layers, and the parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remerge.config.reading import read_yaml
from remerge.errors import UserError
from remerge.folders.mergekit.entries import check_keys, list_in, mapping_in, place_of, source_in
from remerge.folders.mergekit.tokens import Tokens, tokens_in
from remerge.folders.mergekit.translations import METHODS
from remerge.folders.mergekit.values import check_value

KEYS = {
    "name": "",  # with which some files begin, and which is not used
    "merge_method": "",
    "base_model": "",
    "models": "",
    "slices": "",
    "parameters": "",
    "dtype": "",
    "out_dtype": "",
    "tokenizer_source": "",
    "modules": "only whole models are merged: list them under models",
    "tokenizer": "",
    "chat_template": "the chat template is the tokenizer's: leave the key out",
}
"""The keys of a file, with the remedy for those that remerge cannot follow."""

DTYPES = ("float32", "bfloat16", "float16")

WITH_THE_BASE = ("slerp", "nearswap")
"""The methods that merge the base itself with another model."""

WITHOUT_A_BASE = ("linear", "karcher", "passthrough")
"""The methods of which a base is one of the models."""


@dataclass(frozen=True)
class Slice:
    """A run of layers of the merge, and what is merged there.

    Attributes:
        first: its first layer.
        last: the layer after its last; None if it has all.
        models: the models without the base, unless that is merged too, each with its own parameters.
        shared: parameters for all models in this slice.
        starts: the layer of each model listed, the base too, with which the slice begins.
    """

    first: int
    last: int | None
    models: Mapping[str, Mapping[str, Any]]
    shared: Mapping[str, Any]
    starts: Mapping[str, int]


@dataclass(frozen=True)
class Asked:
    """The merge that a mergekit file asks for.

    Attributes:
        where: the file.
        raw: all that it says.
        method: mergekit's method.
        named_base: the base model that it names, if any.
        slices: its runs of layers, in their order; one has all layers if the file has no slices.
        shared: parameters for all tensors.
        dtype: of the merged weights; the base's if None.
        computed: the dtype in which mergekit computes; that of the weights read if None.
        tokens: the tokens for which the merge has rows; those that the models have if None.
    """

    where: Path
    raw: Mapping[str, Any]
    method: str
    named_base: str | None
    slices: Sequence[Slice]
    shared: Mapping[str, Any]
    dtype: str | None
    computed: str | None
    tokens: Tokens | None

    @property
    def experts(self) -> list[str]:
        """Every model that is merged, once."""
        return list(dict.fromkeys(model for own in self.slices for model in own.models))

    @property
    def base(self) -> str:
        """The model whose configuration the merge has: the base, or the first model."""
        return self.named_base or self.experts[0]

    def written(self, name: Callable[[str], Any]) -> dict[str, Any]:
        """All that the file says, with other names of its models."""

        def renamed(part: Any) -> Any:
            if isinstance(part, list):
                return [renamed(entry) for entry in part]
            if not isinstance(part, dict):
                return part
            made = dict(part)
            for key, value in part.items():
                if key in ("slices", "sources", "models"):
                    made[key] = renamed(value)
                elif key in ("model", "base_model") and value is not None:
                    made[key] = name(source_in(self.where, key, value))
            return made

        found: dict[str, Any] = renamed(self.raw)
        if self.tokens is not None:
            found.pop("tokenizer_source", None)
            found["tokenizer"] = self.tokens.written(name)
        return found


def read_recipe(where: Path) -> Asked:
    """The merge that a mergekit file asks for.

    Sums are in float32 whatever ``dtype`` says; it is the dtype in which the weights are written.

    Raises:
        UserError: it is no such file, or asks for something that remerge does not do; the line names
            the key.
    """
    raw = read_yaml(where)
    if not isinstance(raw, dict):
        raise UserError(f"{where}: not a mapping of keys: give a mergekit configuration")
    for key, value in raw.items():
        remedy = KEYS.get(key, f"unknown key, known: {', '.join(k for k, r in KEYS.items() if not r)}")
        if remedy and value is not None:
            raise UserError(f"{where}: {key}: {remedy}")
    name = _method(where, raw)
    for key in ("dtype", "out_dtype"):
        if raw.get(key) not in (None, *DTYPES):
            raise UserError(f"{where}: {key}: must be one of {', '.join(DTYPES)}, not {str(raw[key])[:60]!r}")
    base = None if raw.get("base_model") is None else source_in(where, "base_model", raw["base_model"])
    if base is None and name == "multislerp":
        raise UserError(f"{where}: base_model is missing: remerge's multi_slerp is of differences from one")
    if base is None and name not in (*WITHOUT_A_BASE, "nuslerp"):
        raise UserError(f"{where}: base_model is missing, and {name} starts from it: name it")
    dtype = raw.get("dtype")
    asked = Asked(
        where=where,
        raw=raw,
        method=name,
        named_base=base,
        slices=_slices(where, raw, name, base),
        shared=_parameters(where, "parameters", raw.get("parameters")),
        dtype=raw.get("out_dtype") or dtype,
        computed=dtype,
        tokens=tokens_in(where, raw),
    )
    named: dict[Path | str, str] = {}
    for source in asked.experts:
        if (first := named.setdefault(place_of(source), source)) != source:
            raise UserError(f"{where}: {first} and {source} are one model: write it alike everywhere")
    return asked


def _method(where: Path, raw: Mapping[str, Any]) -> str:
    name = str(raw.get("merge_method"))
    if name not in METHODS:
        raise UserError(
            f"{where}: merge_method: {name[:60]!r} is not one that remerge and mergekit have in common, "
            f"{', '.join(METHODS)}: see `remerge methods` for remerge's own"
        )
    return name


def _slices(where: Path, raw: Mapping[str, Any], method: str, base: str | None) -> list[Slice]:
    """The runs of layers that a file has merged, in the order of the merge."""
    if raw.get("slices") is None:
        entries = list_in(where, "models", raw.get("models"))
        models = _models(where, "models", entries, ["model", "parameters"])
        starts = dict.fromkeys(models, 0)
        return [Slice(0, None, _merged(where, "models", models, method, base), {}, starts)]
    if raw.get("models") is not None:
        raise UserError(f"{where}: models and slices: give one of them")
    made: list[Slice] = []
    for i, entry in enumerate(list_in(where, "slices", raw["slices"])):
        key, first = f"slices.{i}", (made[-1].last or 0) if made else 0
        entry = mapping_in(where, key, entry)
        check_keys(where, key, entry, ["sources", "parameters"])
        sources = list_in(where, f"{key}.sources", entry.get("sources"))
        models = _models(where, f"{key}.sources", sources, ["model", "layer_range", "parameters"])
        ranges = [_range(where, f"{key}.sources.{j}", source) for j, source in enumerate(sources)]
        length = len(ranges[0])
        if odd := next((r for r in ranges if len(r) != length), None):
            raise UserError(
                f"{where}: {key}: layer_range [{odd.start}, {odd.stop}]: the first source has {length}: "
                "give all sources of a slice as many layers"
            )
        starts = {model: r.start for model, r in zip(models, ranges, strict=True)}
        shared = _parameters(where, f"{key}.parameters", entry.get("parameters"))
        merged = _merged(where, f"{key}.sources", models, method, base)
        made.append(Slice(first, first + length, merged, shared, starts))
    return made


def _range(where: Path, key: str, source: Mapping[str, Any]) -> range:
    given = source.get("layer_range")
    numbers = given if isinstance(given, list) else []
    if len(numbers) != 2 or not all(type(n) is int for n in numbers) or not 0 <= numbers[0] < numbers[1]:
        raise UserError(
            f"{where}: {key}.layer_range: must be the first layer and the one after the last, [0, 32], not "
            f"{str(given)[:60]!r}"
        )
    return range(*numbers)


def _models(where: Path, key: str, entries: Sequence[Any], known: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Models and their own parameters, in the order of the file."""
    found: dict[str, dict[str, Any]] = {}
    places: set[Path | str] = set()
    for i, entry in enumerate(entries):
        entry = mapping_in(where, f"{key}.{i}", entry)
        source = source_in(where, f"{key}.{i}.model", entry.get("model"))
        own = _parameters(where, f"{key}.{i}.parameters", entry.get("parameters"))
        check_keys(where, f"{key}.{i}", entry, known)
        place = place_of(source)
        if place in places:
            raise UserError(f"{where}: {key}.{i}: {source} is listed twice: give it one weight")
        places.add(place)
        found[source] = own
    return found


def _merged(
    where: Path, key: str, models: dict[str, dict[str, Any]], method: str, base: str | None
) -> dict[str, dict[str, Any]]:
    """The models that a method merges, of those that are listed: without the base, or with it first."""
    if method in WITHOUT_A_BASE:
        # mergekit adds a base to models, not to sources.
        if base is not None and base not in models and key == "models":
            raise UserError(
                f"{where}: base_model: {method} would merge it too: list it in {key}, or leave it out"
            )
    elif base is not None:
        own = models.pop(base, {})
        models = {base: own, **models} if method in WITH_THE_BASE else models
    if not models:
        raise UserError(f"{where}: {key}: only the base is listed: list the experts")
    return models


def _parameters(where: Path, key: str, given: Any) -> dict[str, Any]:
    found = mapping_in(where, key, given)
    for name, value in found.items():
        check_value(where, f"{key}.{name}", value)
    return found
