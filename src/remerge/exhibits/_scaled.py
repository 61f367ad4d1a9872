"""The variants whose merges lie on a curve over the scale of the merged vector."""

from remerge.config import Config, Variant


def scaled(config: Config, group: int | str) -> list[Variant]:
    """The variants of a group that have a scale, and set no other parameter."""
    return [
        variant
        for variant in config.merge.variants
        if str(group) in config.groups(variant)
        and {*config.params(variant)} <= {"scale"}
        and variant.name not in config.external
        and "scale" in config.methods[variant.method].defaults
    ]
