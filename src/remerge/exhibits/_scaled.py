"""The variants whose merges lie on a curve over the scale of the merged vector."""

from typing import Any

from remerge.config import Config, Variant
from remerge.variants import tuned


def scaled(config: Config, group: int | str) -> list[Variant]:
    """The variants of a group that have one scale for all experts, and set no other parameter."""
    return [
        variant
        for variant in config.merge.variants
        if str(group) in config.groups(variant)
        and {*config.params(variant)} <= {"scale"}
        and variant.name not in config.external
        and "scale" in config.known[variant.method].defaults
        and _is_one(config.params(variant).get("scale", 1))
    ]


def _is_one(scale: Any) -> bool:
    """Whether a scale is a number, or chosen among numbers; if not, it has one for each expert."""
    values = tuned({"scale": scale}).get(("scale",), [scale])
    return all(isinstance(value, int | float) for value in values)
