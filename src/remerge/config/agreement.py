"""Refusals of a configuration whose sections, each right in itself, do not fit together."""

from collections.abc import Mapping
from itertools import combinations
from math import log10
from typing import TYPE_CHECKING, Any

from remerge import sources
from remerge.config.merging import Variant
from remerge.config.tasks import OF_TWO
from remerge.errors import unknown
from remerge.variants import MOST_POINTS, parse, population_of, tuned

if TYPE_CHECKING:
    from remerge.config.benchmark import Config

UNMERGED = ("base", "expert", "experts", "multitask")
"""The names of the unmerged models in tables."""


def check_agreement(config: "Config") -> None:
    """Check that names are free or known, that the base can do the tasks, and that variants differ.

    Raises:
        ValueError: the first fault, by its key.
    """
    _check_tasks(config)
    if config.finetune.linear:
        _check_expansion(config)
    _check_cases(config)
    _check_methods(config)
    _check_rules(config)
    _check_plans(config)
    _check_names(config)
    _check_stand_ins(config)


def _check_tasks(config: "Config") -> None:
    """Refuse reserved names, and tasks that the base cannot read or answer."""
    if config.benchmark == "compare":
        raise ValueError("benchmark: results/compare is for comparisons of several: give another name")
    base = config.base
    for reserved in {"base", "multitask"} & set(config.tasks):
        raise ValueError(f"tasks.{reserved}: this is the name of a reference model: give another name")
    for name, asked in config.tasks.items():
        if (asked.image is None) == (base.reads == "image"):
            key = "image" if base.reads == "image" else "prompt"
            raise ValueError(f"tasks.{name}: {base.family} reads {base.reads}: give {key}")
        if asked.captions and not base.fixed_heads:
            raise ValueError(
                f"tasks.{name}: captions make fixed heads, and {base.family} trains its own: leave them out"
            )
        words = asked.metric not in ("accuracy", *OF_TWO) or asked.answer_tokens
        if not base.speaks and (not asked.answers or words):
            raise ValueError(
                f"tasks.{name}: {base.family} answers with classes: name them in answers, leave metric at "
                "accuracy, or matthews or f1 of two, and leave out answer_tokens"
            )


def _check_expansion(config: "Config") -> None:
    """Refuse parts that would read a linearised model as an ordinary one, or cannot read it."""
    recipe, base = f"finetune.recipe {config.finetune.recipe}", config.base
    if not base.fixed_heads:
        able = ", ".join(name for name, family in sources.families().items() if family.fixed_heads)
        raise ValueError(f"{recipe}: {base.family} cannot be linearised: use one of {able}")
    if base.dtype != "float32":
        raise ValueError(f"{recipe}: base.dtype {base.dtype} rounds task vectors away: set float32")
    if config.rules:
        raise ValueError(f"{recipe}: rules of your own write ordinary models: leave them out")
    for variant in config.merge.variants:
        known = config.known.get(variant.method)
        if known and known.statistics:
            raise ValueError(f"{recipe}: {variant.name} needs statistics of ordinary models: leave it out")


def _check_cases(config: "Config") -> None:
    for name in config.planned:
        try:
            config.cases(name)
        except ValueError as error:
            raise ValueError(f"plans.{name}: {error}") from None


def _check_methods(config: "Config") -> None:
    methods = [*config.known, *config.external]
    for method in [*(variant.method for variant in config.merge.variants), *config.merge.defaults]:
        if method not in methods:
            raise ValueError(f"merge: {unknown('method', method, methods)}")
    for variant in config.merge.variants:
        points = config.grid(variant).size
        searched = config.is_searched(variant) and not config.is_learned(variant)
        if points > MOST_POINTS and not searched:
            way = "" if config.is_learned(variant) else ", or set tune.search to tpe or cma"
            many = f"{points:,}" if points < 10**12 else f"at least 10^{int(log10(points))}"
            raise ValueError(
                f"merge.variants: {variant.name}: {many} settings to choose from: tune fewer{way}"
            )
        if config.tune.search == "cma" and config.is_searched(variant):
            _check_evolution(config, variant)


def _check_evolution(config: "Config", variant: Variant) -> None:
    """Refuse to search by CMA-ES among values without an order, in one list alone, or in too few trials."""
    lists = {keys: v for keys, v in tuned(config.params(variant)).items() if len(v) > 1}
    where = f"merge.variants: {variant.name}"
    for keys, values in lists.items():
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not numbers or values not in (sorted(values), sorted(values, reverse=True)):
            raise ValueError(
                f"{where}: {': '.join(keys)}: cma takes numbers, ascending or descending: list such, "
                "or set tune.search to tpe"
            )
    if len(lists) == 1:
        raise ValueError(
            f"{where}: cma learns how several parameters go together, and one is tuned: tune others, too, or "
            "set tune.search to tpe"
        )
    # The first point is drawn at random, and those of the first population before anything is learned.
    least = population_of(len(lists)) + 2
    if config.tune.trials < least:
        raise ValueError(
            f"tune.trials: cma learns nothing about {len(lists)} parameters before trial {least} "
            f"({variant.name}): give at least {10 * least}, or set search to tpe"
        )


def _check_rules(config: "Config") -> None:
    """Refuse rules of the user that make no variant, or one with parameters, which only methods have."""
    names = [variant.name for variant in config.merge.variants]
    for rule in config.external:
        if rule in config.known:
            raise ValueError(f"rules: {rule} is the name of a method: rename the file")
        if rule in config.merge.defaults:
            raise ValueError(f"merge.defaults.{rule}: a rule of yours makes it, and reads none: leave it out")
        for variant in config.merge.variants:
            if variant.method == rule and (variant.name != rule or variant.params):
                raise ValueError(
                    f"merge.variants: a rule of your own makes {rule}, which takes no parameters and no "
                    "seeds: write the name alone"
                )
        if rule not in names:
            raise ValueError(
                f"rules: {rule} is not a variant: list it in merge.variants, or leave the file out"
            )


def _check_plans(config: "Config") -> None:
    """Refuse plans that name unknown variants, or variants that make none of their merges."""
    variants = {variant.name: variant for variant in config.merge.variants}
    for name, plan in config.planned.items():
        for variant in plan.variants or []:
            if variant not in variants:
                raise ValueError(f"plans.{name}: {unknown('variant', variant, variants)}")
            if name not in config.groups(variants[variant]).values():
                raise ValueError(f"plans.{name}: {variant} can make none of its merges: leave it out")


def _check_names(config: "Config") -> None:
    """Refuse variants that tables and figures would take for one another, or for an unmerged model."""
    variants = config.merge.variants
    for variant in variants:
        if variant.name in UNMERGED:
            raise ValueError(
                f"merge.variants: {variant.name} is the name of an unmerged model: rename the method"
            )
    labelled: dict[str, str] = {}
    for method in dict.fromkeys(variant.method for variant in variants):
        label = config.known[method].label if method in config.known else method
        if (first := labelled.setdefault(label, method)) != method:
            raise ValueError(
                f"merge.variants: {first} and {method} are both called {label} in print: change a label"
            )
    # Looked up once each: there may be hundreds of variants, and each job reads the configuration.
    defaults = {name: known.defaults for name, known in config.known.items()}
    of = [(variant, defaults.get(variant.method, {})) for variant in variants]
    looks = [(variant, {**own, **config.params(variant)}, _shown(variant, own)) for variant, own in of]
    for (one, params, shown), (other, other_params, other_shown) in combinations(looks, 2):
        # The same merges, or others under the same name.
        if one.method == other.method and (params == other_params or shown == other_shown):
            raise ValueError(
                f"merge.variants: {one.name} and {other.name} have one name in print, from which seeds "
                "and the method's own defaults are left out: leave one out, or change merge.defaults"
            )


def _check_stand_ins(config: "Config") -> None:
    """Refuse stand-ins that an image cannot have, or that take no place."""
    if "shuffled" in config.stand_ins and any(task.image for task in config.tasks.values()):
        raise ValueError("merge.variants: an image has no words to shuffle: write stand_ins: other")
    for variant in config.merge.variants:
        if config.is_learned(variant) and "stand_ins" in variant.params and not config.stand_ins_of(variant):
            raise ValueError(
                f"merge.variants: {variant.name}: stand_ins take no place without a share of inputs in "
                "replaced: give one, or leave stand_ins out"
            )


def _shown(variant: Variant, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in a variant's name that are printed."""
    silent = {"seeds": variant.seeds, **defaults}
    return {key: value for key, value in parse(variant.name)[1].items() if value != silent.get(key)}
