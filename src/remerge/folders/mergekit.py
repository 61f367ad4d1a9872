"""mergekit configurations, as people have them: read where a remerge method makes the same merge."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remerge.checkpoints.stored import is_adapter
from remerge.config.reading import read_yaml
from remerge.errors import UserError
from remerge.families._text import TOKENIZERS, tokenizer_of
from remerge.files import read_settings
from remerge.headers import weights
from remerge.methods import find
from remerge.notes import note

KEYS = {
    "merge_method": "",
    "base_model": "",
    "models": "",
    "parameters": "",
    "dtype": "",
    "out_dtype": "",
    "tokenizer_source": "",
    "slices": "only whole models are merged: list them under models",
    "modules": "only whole models are merged: list them under models",
    "tokenizer": "the tokenizer is the base's: leave the key out",
    "chat_template": "the chat template is the base's: leave the key out",
}
"""The keys of a file, with the remedy for those that remerge cannot follow."""

RANDOM = {
    "dare_linear": "dare",
    "dare_ties": "dare_ties",
    "della": "della",
    "della_linear": "della",
}
"""mergekit's methods whose masks are random, and the remerge method that is most similar."""

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Given:
    """A merge that a mergekit file asks for, in remerge's terms.

    Attributes:
        method: the merge method.
        base: a folder or hub id.
        experts: the same for each expert.
        params: the method's parameters.
        dtype: of the merged weights; the base's if None.
        computed: the dtype in which mergekit computes; that of the weights read if None.
        aligned: whether mergekit brings the rows of embeddings into the order of the base's tokens.
    """

    method: str
    base: str
    experts: list[str]
    params: dict[str, Any]
    dtype: str | None
    computed: str | None
    aligned: bool


@dataclass(frozen=True)
class _Settings:
    """The parameters in a file: those for all models, and each model's own, which take precedence.

    A method takes them one by one; any that are left in the end were not understood.
    """

    where: Path
    base: str | None
    shared: dict[str, Any]
    models: dict[str, dict[str, Any]]

    def number(self, key: str, default: float | None = None) -> float:
        """A number that all models share."""
        value = self.shared.pop(key, default)
        if value is None:
            raise UserError(f"{self.where}: parameters.{key} is missing: give a number")
        return self._number(f"parameters.{key}", value)

    def numbers(self, key: str, default: float | None = None) -> list[float]:
        """One number for each model."""
        shared = self.shared.pop(key, default)
        found = {model: own.pop(key, shared) for model, own in self.models.items()}
        for model, value in found.items():
            if value is None:
                raise UserError(f"{self.where}: {key} of {model} is missing: give it under its parameters")
        return [self._number(f"{key} of {model}", value) for model, value in found.items()]

    def same(self, key: str, default: float | None, why: str) -> float:
        """A number for each model that must be the same for all."""
        values = self.numbers(key, default)
        if len(set(values)) > 1:
            raise UserError(f"{self.where}: {key}: {why}: give all models the same value")
        return values[0]

    def flag(self, key: str, default: bool) -> bool:
        """A switch for all models."""
        value = self.shared.pop(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: parameters.{key}: must be true or false, not {str(value)[:60]!r}")
        return value

    def done(self, method: str) -> None:
        """Refuse parameters that are left."""
        left = [(f"parameters.{key}", key) for key in self.shared]
        left += [(f"{key} of {model}", key) for model, own in self.models.items() for key in own]
        for place, key in left:
            raise UserError(f"{self.where}: {place}: remerge's {method} takes no {key}: leave it out")

    def _number(self, place: str, value: Any) -> float:
        if isinstance(value, list | dict):
            raise UserError(
                f"{self.where}: {place}: values per layer or per tensor are not supported: give one number"
            )
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        # mergekit holds weights in float32.
        if not abs(number) <= 3e38:
            raise UserError(f"{self.where}: {place}: must be a number, not {str(value)[:60]!r}")
        return number


def read_recipe(where: Path) -> Given:
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
    name = str(raw.get("merge_method"))
    if name in RANDOM:
        raise UserError(
            f"{where}: merge_method: {name} draws random masks, and mergekit's cannot be drawn again: "
            f"`remerge merge --method {RANDOM[name]}` makes the most similar merge"
        )
    if name not in METHODS:
        raise UserError(
            f"{where}: merge_method: {name[:60]!r} is not one that remerge and mergekit have in common, "
            f"{', '.join(METHODS)}: see `remerge methods` for remerge's own"
        )
    if raw.get("tokenizer_source") not in (None, "base"):
        raise UserError(
            f"{where}: tokenizer_source: the tokenizer is the base's: write base, or leave it out"
        )
    for key in ("dtype", "out_dtype"):
        if raw.get(key) not in (None, *DTYPES):
            raise UserError(f"{where}: {key}: must be one of {', '.join(DTYPES)}, not {str(raw[key])[:60]!r}")
    base = None if raw.get("base_model") is None else _source(where, "base_model", raw["base_model"])
    models = _models(where, raw)
    if name in ("linear", "karcher"):
        if base is not None and base not in models:
            raise UserError(
                f"{where}: base_model: {name} would merge it too: list it in models, or leave it out"
            )
    elif base is not None:
        own = models.pop(base, {})
        models = {base: own, **models} if name in ("slerp", "nearswap") else models
    elif name == "multislerp":
        raise UserError(f"{where}: base_model is missing: remerge's multi_slerp is of differences from one")
    elif name != "nuslerp":
        raise UserError(f"{where}: base_model is missing, and {name} starts from it: name it")
    settings = _Settings(where, base, _mapping(where, "parameters", raw.get("parameters")), models)
    if not models:
        raise UserError(f"{where}: models: only the base is listed: list the experts")
    method, params = METHODS[name](settings)
    settings.done(method)
    try:
        find(method).alone(params)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    dtype, aligned = raw.get("dtype"), raw.get("tokenizer_source") is not None
    written = raw.get("out_dtype") or dtype
    return Given(method, base or next(iter(models)), list(models), params, written, dtype, aligned)


def check_stored(where: Path, given: Given, base: Path, experts: Sequence[Path]) -> None:
    """Refuse stored models of which mergekit would make another merge; a note if only rounding differs.

    Args:
        where: the file.
        given: what it asks for.
        base: the folder of the base.
        experts: the same of each expert.

    Raises:
        UserError: an adapter has no base; models are stored in several dtypes, and the file names none; or
            `tokenizer_source` would move or drop rows of embeddings.
    """
    # Where the base is itself among the models, no other model is named to which an adapter belongs.
    whole = [base, *experts] if given.base in given.experts else [base]
    for folder in whole:
        if is_adapter(folder):
            raise UserError(
                f"{where}: {folder} is an adapter, and no model is named to add it to: give a whole model"
            )
    dtypes = {name: dtype for name, (_, dtype) in weights(str(base.resolve())).items()}
    for expert in experts:
        own = {name: dtype for name, (_, dtype) in weights(str(expert.resolve())).items() if name in dtypes}
        if given.dtype is None and own != {name: dtypes[name] for name in own}:
            raise UserError(
                f"{where}: dtype is missing, and {expert} is stored in another one than {base}: name it"
            )
    if given.aligned:
        _check_rows(where, base, experts)
    half = not {"F16", "BF16"}.isdisjoint(dtypes.values())
    differs = []
    if given.computed in DTYPES[1:] or (given.computed is None and half):
        differs.append("rounds each step to 16 bits")
    # Of three experts that cancel, weights that are no powers of two leave a sign to the rounding.
    ties = given.params.get("density", 1) < 1 or (given.method == "ties" and len(given.experts) > 2)
    if ties and (differs or half):
        differs.append("leaves entries that tie to its sort and rounding")
    if differs:
        note(f"{where}: mergekit {' and '.join(differs)}, remerge does not: the merges differ by that")


def _check_rows(where: Path, base: Path, experts: Sequence[Path]) -> None:
    tokens = tokenizer_of(base).get_vocab()
    for expert in experts:
        # mergekit, too, takes a model without a tokenizer to have the base's.
        if any((expert / file).is_file() for file in TOKENIZERS):
            own = tokenizer_of(expert).get_vocab()
            if moved := [token for token in sorted(tokens) if own.get(token) != tokens[token]]:
                raise UserError(
                    f"{where}: tokenizer_source: {moved[0]!r} has another number in {expert}, and "
                    "remerge moves no rows of embeddings: give models with the base's tokenizer"
                )
    file = base / "config.json"
    config = read_settings(file) if file.is_file() else {}
    rows = (config.get("text_config") or config).get("vocab_size", len(tokens))
    if rows != len(tokens):
        raise UserError(
            f"{where}: tokenizer_source: mergekit would make {len(tokens)} rows, one for each token, of the "
            f"base's {rows} rows of embeddings: leave it out"
        )


def _models(where: Path, raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of a file and their own parameters, in its order."""
    listed = raw.get("models")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{where}: models: must be a list of models, each `model: folder or hub id`")
    found: dict[str, dict[str, Any]] = {}
    places: set[Path | str] = set()
    for i, entry in enumerate(listed):
        entry = _mapping(where, f"models.{i}", entry)
        source = _source(where, f"models.{i}.model", entry.pop("model", None))
        own = _mapping(where, f"models.{i}.parameters", entry.pop("parameters", None))
        if entry:
            raise UserError(
                f"{where}: models.{i}: unknown key {min(map(str, entry))}, known: model, parameters"
            )
        place = Path(source).resolve() if Path(source).is_dir() else source
        if place in places:
            raise UserError(f"{where}: models.{i}: {source} is listed twice: give it one weight")
        places.add(place)
        found[source] = own
    return found


def _mapping(where: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise UserError(f"{where}: {key}: must be a mapping of keys, not {str(value)[:60]!r}")
    return dict(value or {})


def _source(where: Path, key: str, value: Any) -> str:
    """A folder or hub id, as a text or in mergekit's long form, in which + and @ are letters of a name."""
    source = value
    if isinstance(value, dict):
        given = {part: own for part, own in value.items() if own is not None}
        inner = given.get("model")
        if given.keys() == {"model"} and isinstance(inner, dict) and inner.keys() <= {"path", "revision"}:
            source = inner.get("path")
            if source and inner.get("revision"):
                source = f"{source}@{inner['revision']}"
    if not isinstance(source, str) or not source:
        raise UserError(f"{where}: {key}: must be a folder or hub id, not {str(value)[:60]!r}")
    if "+" in source and source is value:
        raise UserError(
            f"{where}: {key}: {value}: give the adapter alone: `remerge merge` adds it to its base; "
            "or write {model: {path: …}} if a folder's name has a +"
        )
    return source


def _linear(given: _Settings) -> tuple[str, dict[str, Any]]:
    weights = given.numbers("weight")
    total = math.fsum(weights)
    if not given.flag("normalize", True) and not math.isclose(total, 1):
        raise UserError(f"{given.where}: parameters.normalize: the weights sum to {total:g}: make it 1")
    if min(weights) < 0:
        raise UserError(f"{given.where}: weight: {min(weights):g} is negative: use task_arithmetic")
    if total == 0:
        raise UserError(f"{given.where}: weight: all are 0: give one model a weight")
    return "average", {"weights": [weight / total for weight in weights]}


def _task_arithmetic(given: _Settings) -> tuple[str, dict[str, Any]]:
    return "task_arithmetic", {"scale": _scales(given)}


def _breadcrumbs(given: _Settings) -> tuple[str, dict[str, Any]]:
    scale = _scales(given)
    density = given.same("density", 1.0, "every task vector keeps the same share")
    outliers = given.same("gamma", 0.01, "every task vector loses the same share")
    _not_rescaled(given, "breadcrumbs")
    if density == 1:
        outliers = 0.0  # mergekit keeps all
    if density < 1 < density + outliers:
        raise UserError(
            f"{given.where}: gamma: with density it sums to more than 1: write {1 - density:g} or less"
        )
    return "breadcrumbs", {"density": density, "outliers": outliers, "scale": scale}


def _sce(given: _Settings) -> tuple[str, dict[str, Any]]:
    given.flag("int8_mask", False)  # concerns only memory
    return "sce", {"density": given.number("select_topk", 1.0), "authors": True}


def _ties(given: _Settings) -> tuple[str, dict[str, Any]]:
    weight = given.same("weight", None, "signs are elected before any weighting")
    density = given.same("density", 1.0, "every task vector keeps the same share")
    scale = given.number("lambda", 1.0)
    given.flag("int8_mask", False)  # concerns only memory
    _not_rescaled(given, "ties")
    if weight <= 0:
        raise UserError(f"{given.where}: weight: {weight:g} would elect other signs: give a positive number")
    mean = given.flag("normalize", True)
    params = {"density": density, "scale": scale if mean else scale * weight, "scope": "tensor"}
    return "ties", params if mean else {**params, "aggregate": "sum"}


def _slerp(given: _Settings) -> tuple[str, dict[str, Any]]:
    _two(given, "slerp takes the base and one other")
    return "slerp", {"t": given.number("t"), "of": "weights"}


def _nearswap(given: _Settings) -> tuple[str, dict[str, Any]]:
    _two(given, "nearswap takes the base and one other")
    return "nearswap", {"t": given.number("t")}


def _nuslerp(given: _Settings) -> tuple[str, dict[str, Any]]:
    _two(given, "nuslerp takes two beside the base")
    given.flag("nuslerp_row_wise", False)  # concerns only what is not flattened
    if not given.flag("nuslerp_flatten", True):
        raise UserError(
            f"{given.where}: parameters.nuslerp_flatten: remerge goes by whole tensors: write true"
        )
    return "nuslerp", {"weights": _shares(given), "of": "deltas" if given.base else "weights"}


def _karcher(given: _Settings) -> tuple[str, dict[str, Any]]:
    steps, tolerance = given.number("max_iter", 10), given.number("tol", 1e-5)
    if steps < 10 or not 0 < tolerance <= 1e-5:
        key = "max_iter" if steps < 10 else "tol"
        raise UserError(
            f"{given.where}: parameters.{key}: remerge goes on until the mean stands: leave it out"
        )
    return "karcher", {"of": "weights"}


def _multislerp(given: _Settings) -> tuple[str, dict[str, Any]]:
    if not given.flag("normalize_weights", True):
        raise UserError(
            f"{given.where}: parameters.normalize_weights: remerge normalises the weights: write true"
        )
    return "multi_slerp", {"weights": _shares(given)}


def _model_stock(given: _Settings) -> tuple[str, dict[str, Any]]:
    if len(given.models) < 2:
        raise UserError(f"{given.where}: models: model_stock takes two models or more beside the base")
    if given.flag("filter_wise", False):
        raise UserError(f"{given.where}: parameters.filter_wise: remerge goes by whole tensors: write false")
    return "model_stock", {}


def _two(given: _Settings, takes: str) -> None:
    if len(given.models) != 2:
        raise UserError(f"{given.where}: models: {takes}, not {len(given.models)}")


def _not_rescaled(given: _Settings, method: str) -> None:
    if given.flag("rescale", False):
        raise UserError(
            f"{given.where}: parameters.rescale: remerge's {method} does not rescale: write false"
        )


def _scales(given: _Settings) -> list[float]:
    """The coefficients of the task vectors: weights, as methods without an election take them."""
    weights, scale = given.numbers("weight"), given.number("lambda", 1.0)
    given.flag("int8_mask", False)  # concerns only memory
    if given.flag("normalize", False):
        scale /= _divisor(given, weights)
    return [scale * weight for weight in weights]


def _shares(given: _Settings) -> list[float]:
    """Weights that sum to 1."""
    weights = given.numbers("weight")
    if min(weights) < 0:
        raise UserError(f"{given.where}: weight: {min(weights):g} is negative: give numbers of 0 or more")
    total = _divisor(given, weights)
    return [weight / total for weight in weights]


def _divisor(given: _Settings, weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    if abs(total) < 1e-8:
        raise UserError(
            f"{given.where}: weight: the weights sum to 0: change one, so that they can be normalised"
        )
    return total


METHODS: Mapping[str, Callable[[_Settings], tuple[str, dict[str, Any]]]] = {
    "linear": _linear,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
    "breadcrumbs": _breadcrumbs,
    "sce": _sce,
    "slerp": _slerp,
    "nuslerp": _nuslerp,
    "multislerp": _multislerp,
    "karcher": _karcher,
    "nearswap": _nearswap,
    "model_stock": _model_stock,
}
"""The methods that both have, by mergekit's names: from settings to remerge's method and parameters."""
