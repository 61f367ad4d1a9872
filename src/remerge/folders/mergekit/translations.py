"""mergekit's methods in remerge's terms."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remerge.errors import UserError
from remerge.folders.mergekit.values import number_in


@dataclass(frozen=True)
class Settings:
    """The parameters of some tensors: those for all models, and each model's own, which take precedence.

    A method takes them one by one; any that are left in the end were not understood. Where layers are moved,
    filters go by a model's own names of tensors for what a method takes for each model, else by the merge's.

    Attributes:
        where: the file, and a tensor if there are others with other parameters.
        base: the base model, if the file names one.
        shared: the parameters for all models.
        models: each model's own.
        for_each: the parameters for all models, as they are for each.
    """

    where: str
    base: str | None
    shared: dict[str, Any]
    models: dict[str, dict[str, Any]]
    for_each: Mapping[str, Mapping[str, Any]]

    def number(self, key: str, default: float | None = None) -> float:
        """A number that all models share."""
        value = self.shared.pop(key, default)
        if value is None:
            raise UserError(f"{self.where}: parameters.{key} is missing: give a number")
        return self._number(f"parameters.{key}", value)

    def numbers(self, key: str, default: float | None = None) -> list[float]:
        """One number for each model."""
        self.shared.pop(key, None)
        found = {m: own.pop(key, self.for_each[m].get(key, default)) for m, own in self.models.items()}
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
        number = number_in(value)
        # mergekit holds weights in float32.
        if not abs(number) <= 3e38:
            raise UserError(f"{self.where}: {place}: must be a number, not {str(value)[:60]!r}")
        return number


def _passthrough(given: Settings) -> tuple[str, dict[str, Any]]:
    if len(given.models) != 1:
        raise UserError(f"{given.where}: models: passthrough takes one, or one in each slice")
    return "task_arithmetic", {"scale": given.numbers("scale", 1.0)}


def _linear(given: Settings) -> tuple[str, dict[str, Any]]:
    weights = given.numbers("weight")
    total = math.fsum(weights)
    if not given.flag("normalize", True) and not math.isclose(total, 1):
        raise UserError(f"{given.where}: parameters.normalize: the weights sum to {total:g}: make it 1")
    if min(weights) < 0:
        raise UserError(f"{given.where}: weight: {min(weights):g} is negative: use task_arithmetic")
    if total == 0:
        raise UserError(f"{given.where}: weight: all are 0: give one model a weight")
    return "average", {"weights": [weight / total for weight in weights]}


def _task_arithmetic(given: Settings) -> tuple[str, dict[str, Any]]:
    return "task_arithmetic", {"scale": _scales(given)}


def _breadcrumbs(given: Settings) -> tuple[str, dict[str, Any]]:
    return "breadcrumbs", {"scale": _scales(given), **_crumbs(given)}


def _breadcrumbs_ties(given: Settings) -> tuple[str, dict[str, Any]]:
    return "breadcrumbs", {**_elected(given, normalize=False), **_crumbs(given)}


def _crumbs(given: Settings) -> dict[str, float]:
    """What methods with breadcrumbs' masks have in common."""
    density = given.same("density", 1.0, "every task vector keeps the same share")
    outliers = given.same("gamma", 0.01, "every task vector loses the same share")
    _not_rescaled(given, "breadcrumbs")
    if density == 1:
        outliers = 0.0  # mergekit keeps all
    if density < 1 < density + outliers:
        raise UserError(
            f"{given.where}: gamma: with density it sums to more than 1: write {1 - density:g} or less"
        )
    return {"density": density, "outliers": outliers}


def _sce(given: Settings) -> tuple[str, dict[str, Any]]:
    given.flag("int8_mask", False)  # concerns only memory
    share = given.number("select_topk", 1.0)
    if not 0 < share <= 1:
        raise UserError(
            f"{given.where}: parameters.select_topk: must be above 0 and at most 1, not {share:g}"
        )
    return "sce", {"density": share, "authors": True}


def _ties(given: Settings) -> tuple[str, dict[str, Any]]:
    _not_rescaled(given, "ties")
    return "ties", {**_elected_sparse(given, normalize=True), "scope": "tensor"}


def _dare_linear(given: Settings) -> tuple[str, dict[str, Any]]:
    return "dare", {**_scaled_sparse(given), "rescale": _rescale(given)}


def _dare_ties(given: Settings) -> tuple[str, dict[str, Any]]:
    chosen = _elected_sparse(given, normalize=False)
    return "dare_ties", {**chosen, "rescale": _rescale(given), "zeros": "plus"}


def _della(given: Settings) -> tuple[str, dict[str, Any]]:
    chosen = _elected_sparse(given, normalize=True)
    epsilons = _epsilons(given, chosen["density"])
    return "della", {**chosen, "epsilon": epsilons, "rescale": _rescale(given), "zeros": "plus"}


def _della_linear(given: Settings) -> tuple[str, dict[str, Any]]:
    chosen = _scaled_sparse(given)
    epsilons = _epsilons(given, chosen["density"])
    return "della", {**chosen, "epsilon": epsilons, "rescale": _rescale(given), "aggregate": "all"}


def _ram(given: Settings) -> tuple[str, dict[str, Any]]:
    return "ram", {"threshold": given.number("epsilon", 1e-5)}


def _ramplus_tl(given: Settings) -> tuple[str, dict[str, Any]]:
    boost, limit = given.number("r", 0.1), given.number("alpha", 0.2)
    return "ram", {**_ram(given)[1], "boost": boost, "limit": limit, "scope": "tensor"}


def _slerp(given: Settings) -> tuple[str, dict[str, Any]]:
    _two(given, "slerp takes the base and one other")
    return "slerp", {"t": given.number("t"), "of": "weights"}


def _nearswap(given: Settings) -> tuple[str, dict[str, Any]]:
    _two(given, "nearswap takes the base and one other")
    return "nearswap", {"t": given.number("t")}


def _nuslerp(given: Settings) -> tuple[str, dict[str, Any]]:
    _two(given, "nuslerp takes two beside the base")
    given.flag("nuslerp_row_wise", False)  # concerns only what is not flattened
    if not given.flag("nuslerp_flatten", True):
        raise UserError(
            f"{given.where}: parameters.nuslerp_flatten: remerge goes by whole tensors: write true"
        )
    return "nuslerp", {"weights": _shares(given), "of": "deltas" if given.base else "weights"}


def _karcher(given: Settings) -> tuple[str, dict[str, Any]]:
    steps, tolerance = given.number("max_iter", 10), given.number("tol", 1e-5)
    if steps < 10 or not 0 < tolerance <= 1e-5:
        key = "max_iter" if steps < 10 else "tol"
        raise UserError(
            f"{given.where}: parameters.{key}: remerge goes on until the mean stands: leave it out"
        )
    return "karcher", {"of": "weights"}


def _multislerp(given: Settings) -> tuple[str, dict[str, Any]]:
    if not given.flag("normalize_weights", True):
        raise UserError(
            f"{given.where}: parameters.normalize_weights: remerge normalises the weights: write true"
        )
    return "multi_slerp", {"weights": _shares(given)}


def _model_stock(given: Settings) -> tuple[str, dict[str, Any]]:
    if len(given.models) < 2:
        raise UserError(f"{given.where}: models: model_stock takes two models or more beside the base")
    if given.flag("filter_wise", False):
        raise UserError(f"{given.where}: parameters.filter_wise: remerge goes by whole tensors: write false")
    return "model_stock", {}


def _two(given: Settings, takes: str) -> None:
    if len(given.models) != 2:
        raise UserError(f"{given.where}: models: {takes}, not {len(given.models)}")


def _not_rescaled(given: Settings, method: str) -> None:
    if given.flag("rescale", False):
        raise UserError(
            f"{given.where}: parameters.rescale: remerge's {method} does not rescale: write false"
        )


def _rescale(given: Settings) -> str:
    return "l1" if given.flag("rescale", True) else "none"


def _epsilons(given: Settings, densities: Sequence[float]) -> list[float]:
    """Half of the range of della's probabilities; of a task vector that is kept whole there are none."""
    found = given.numbers("epsilon", 0.15)
    for model, density, epsilon in zip(given.models, densities, found, strict=True):
        if epsilon < 0:
            raise UserError(
                f"{given.where}: epsilon of {model}: {epsilon:g} is negative: give numbers of 0 or more"
            )
        if density < 1 and not 0 < density - epsilon <= density + epsilon < 1:
            raise UserError(
                f"{given.where}: epsilon of {model}: density {density:g} ± {epsilon:g} must be between 0 and "
                "1: lower it"
            )
    return [epsilon if density < 1 else 0.0 for epsilon, density in zip(found, densities, strict=True)]


def _elected(given: Settings, normalize: bool) -> dict[str, Any]:
    """What methods with an election of signs have in common; ``normalize`` is mergekit's default."""
    weights, scale = given.numbers("weight"), given.number("lambda", 1.0)
    given.flag("int8_mask", False)  # concerns only memory
    aggregate = "mean" if given.flag("normalize", normalize) else "sum"
    if aggregate == "mean" and min(weights) < 0:
        raise UserError(
            f"{given.where}: weight: {min(weights):g} is negative: give numbers of 0 or more, or "
            "normalize: false"
        )
    return {"weights": weights, "scale": scale, "aggregate": aggregate}


def _elected_sparse(given: Settings, normalize: bool) -> dict[str, Any]:
    """As `_elected`, with a share of entries that each task vector keeps."""
    chosen = _elected(given, normalize)
    weights, densities = _kept(given, chosen["weights"])
    return {**chosen, "weights": weights, "density": densities}


def _scaled_sparse(given: Settings) -> dict[str, Any]:
    """What methods without an election have in common, with such a share."""
    scale, densities = _kept(given, _scales(given))
    return {"scale": scale, "density": densities}


def _kept(given: Settings, weights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Weights and densities: a task vector of which nothing is kept counts as a whole one with weight 0."""
    densities = given.numbers("density", 1.0)
    left = [weight if density > 0 else 0.0 for weight, density in zip(weights, densities, strict=True)]
    return left, [min(density, 1.0) if density > 0 else 1.0 for density in densities]


def _scales(given: Settings) -> list[float]:
    """The coefficients of the task vectors: weights, as methods without an election take them."""
    weights, scale = given.numbers("weight"), given.number("lambda", 1.0)
    given.flag("int8_mask", False)  # concerns only memory
    if given.flag("normalize", False):
        scale /= _divisor(given, weights)
    return [scale * weight for weight in weights]


def _shares(given: Settings) -> list[float]:
    """Weights that sum to 1."""
    weights = given.numbers("weight")
    if min(weights) < 0:
        raise UserError(f"{given.where}: weight: {min(weights):g} is negative: give numbers of 0 or more")
    total = _divisor(given, weights)
    return [weight / total for weight in weights]


def _divisor(given: Settings, weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    if abs(total) < 1e-8:
        raise UserError(
            f"{given.where}: weight: the weights sum to 0: change one, so that they can be normalised"
        )
    return total


METHODS: Mapping[str, Callable[[Settings], tuple[str, dict[str, Any]]]] = {
    "passthrough": _passthrough,
    "linear": _linear,
    "task_arithmetic": _task_arithmetic,
    "ties": _ties,
    "dare_linear": _dare_linear,
    "dare_ties": _dare_ties,
    "della": _della,
    "della_linear": _della_linear,
    "breadcrumbs": _breadcrumbs,
    "breadcrumbs_ties": _breadcrumbs_ties,
    "ram": _ram,
    "ramplus_tl": _ramplus_tl,
    "sce": _sce,
    "slerp": _slerp,
    "nuslerp": _nuslerp,
    "multislerp": _multislerp,
    "karcher": _karcher,
    "nearswap": _nearswap,
    "model_stock": _model_stock,
}
"""The methods that both have, by mergekit's names: from settings to remerge's method and parameters."""
