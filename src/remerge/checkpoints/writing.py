"""Weights back in the form in which they were stored: renamed, and stacked experts separated."""

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
    """Weights as `save_pretrained` would store them, of a model read by `remerge.checkpoints.reading`.

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
        """The names in groups that are stored together."""
        found: dict[str, list[str]] = {}
        for name in names:
            key, pattern = apply_converters(name, self._converters)
            found.setdefault(name if pattern is None else key, []).append(name)
        return list(found.values())

    def __call__(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One of these groups as it is stored."""
        if any(apply_converters(name, self._converters)[1] for name in part):
            return {n: t.contiguous() for n, t in revert_weight_conversion(self._model, dict(part)).items()}
        return {apply_renamings(name, self._renamings): tensor for name, tensor in part.items()}


class Names:
    """Tensors of which only the names are known, as they were stored: tied ones under both names.

    Args:
        ties: for each name that is tied to another, that other name.
    """

    def __init__(self, ties: Mapping[str, str]) -> None:
        self._ties = ties

    def parts(self, names: Iterable[str]) -> list[list[str]]:
        """Each name on its own."""
        return [[name] for name in names]

    def __call__(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One tensor under each of its names."""
        tied = {alias: part[held].clone() for alias, held in self._ties.items() if held in part}
        return {**part, **tied}
