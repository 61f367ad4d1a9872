"""Batches: the choices and merges that one process makes; it loads base, experts and inputs once."""

from dataclasses import dataclass

from remerge.config import Config, Variant


@dataclass(frozen=True)
class Batch:
    """What one process makes.

    Attributes:
        name: a method, a learned variant; ``ties/3``, ``select/ties/subsets`` where every size is a batch.
        method: of all its merges.
        choices: plans and the variants whose parameters are chosen for them, before any merge.
        merges: variants and the groups of merges that they make, in order.
    """

    name: str
    method: str
    choices: tuple[tuple[str, Variant], ...]
    merges: tuple[tuple[Variant, str], ...]


def batches(config: Config) -> dict[str, Batch]:
    """Every choice and merge of a benchmark, each in one batch, by name."""
    made = _by_size(config) if config.batches == "sizes" else _by_method(config)
    return {batch.name: batch for batch in made}


def _by_method(config: Config) -> list[Batch]:
    """A batch for each method that does not learn, and for each variant of one that does."""
    of: dict[str, list[Variant]] = {}
    for variant in config.merge.variants:
        of.setdefault(variant.name if config.is_learned(variant) else variant.method, []).append(variant)
    return [
        Batch(
            name,
            variants[0].method,
            tuple((plan, variant) for variant in variants for plan in config.chosen_for(variant)),
            tuple((variant, group) for variant in variants for group in config.groups(variant)),
        )
        for name, variants in of.items()
    ]


def _by_size(config: Config) -> list[Batch]:
    """A batch for each choice and for each size of a variant: short ones, which a cluster spreads."""
    made = []
    for variant in config.merge.variants:
        for plan in config.chosen_for(variant):
            made.append(Batch(f"select/{variant.name}/{plan}", variant.method, ((plan, variant),), ()))
        for group in config.groups(variant):
            made.append(Batch(f"{variant.name}/{group}", variant.method, (), ((variant, group),)))
    return made
