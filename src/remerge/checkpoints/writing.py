"""Weights back in the form in which they were stored: renamed, and stacked experts taken apart."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    apply_converters,
    apply_renamings,
    revert_weight_conversion,
)


class Storage:
    """How `save_pretrained` would store a model that was read by `remerge.checkpoints.reading`.

    Args:
        model: its architecture, after the weights were read.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model: Any = model
        used: Any = self._model._weight_conversions
        rules = [rule.reverse_transform() for rule in used[::-1]]
        self._renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        self._converters = [rule for rule in rules if isinstance(rule, WeightConverter)]

    def parts(self, names: Iterable[str]) -> list[list[str]]:
        """The names, those together that are stored together."""
        found: dict[str, list[str]] = {}
        for name in names:
            key, pattern = apply_converters(name, self._converters)
            found.setdefault(name if pattern is None else key, []).append(name)
        return list(found.values())

    def __call__(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One of these parts as it is stored."""
        if any(apply_converters(name, self._converters)[1] for name in part):
            return {n: t.contiguous() for n, t in revert_weight_conversion(self._model, dict(part)).items()}
        return {apply_renamings(name, self._renamings): tensor for name, tensor in part.items()}


class Names:
    """How tensors are stored of which the names alone are known: as they were, tied ones under both names.

    Args:
        ties: names that are tied to another, and that one.
    """

    def __init__(self, ties: Mapping[str, str]) -> None:
        self._ties = ties

    def parts(self, names: Iterable[str]) -> list[list[str]]:
        """Each name by itself."""
        return [[name] for name in names]

    def __call__(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One tensor under each of its names."""
        tied = {alias: part[held].clone() for alias, held in self._ties.items() if held in part}
        return {**part, **tied}
