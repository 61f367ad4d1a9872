"""One merge of a benchmark, made again as it was scored: for a folder, or in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from remerge.config import Config, Variant
from remerge.deltas import layer_of
from remerge.errors import Stale, UserError
from remerge.folders.card import Coefficients
from remerge.methods import Method, find
from remerge.records import Merge
from remerge.stages import merges
from remerge.stages._bench import Bench
from remerge.stages._kept import CHANGED, Missing, Replay, precisions
from remerge.variants import is_tuned


@dataclass(frozen=True)
class Again:
    """A merge of a benchmark to be made again.

    Attributes:
        bench: with the heads of its tasks only, since no other task's belongs to the merge.
        method: the merge method.
        settings: all its parameters.
        tasks: the tasks whose experts are merged, sorted.
        record: the record of the merge, if it was scored.
        coefficients: the learned coefficients.
    """

    bench: Bench
    method: Method
    settings: Mapping[str, Any]
    tasks: list[str]
    record: Merge | None
    coefficients: Coefficients

    def write(self) -> None:
        """Write the merge into the bench's model."""
        if self.method.learned:
            self._write_learned()
        else:
            self.bench.merge(self.method, self.settings, dict.fromkeys(self.tasks, 1))

    def _write_learned(self) -> None:
        """Write it by the arithmetic that it was scored with."""
        blend = self.bench.blend(self.settings["over"], self.tasks)
        columns = {layer_of(name): coefficients_in(self.coefficients, name) for name in blend.parameters}
        lam = torch.tensor([columns[layer] for layer in blend.layers], device=self.bench.space.device)
        blend.write(lam.T)


def again(config: Config, variant: str, subset: str) -> Again:
    """Read the parts of one merge; settings and coefficients come from its record if it has one.

    Otherwise coefficients are learned here.

    Args:
        config: the benchmark.
        variant: the variant that merges.
        subset: the experts, `task+task`, sorted.

    Raises:
        UserError: an unknown variant or task, a subset not written like this, or a record that does not
            follow from today's code, settings, models and inputs.
    """
    if config.finetune.linear:
        raise UserError(
            f"finetune.recipe {config.finetune.recipe}: from_pretrained cannot read a merge of linearised "
            "models: set finetune.recipe to standard to export merges"
        )
    chosen, tasks = config.variant(variant), config.subset(subset)
    bench = Bench(config, heads=tasks)
    method = find(chosen.method)
    record = _recorded(config, chosen, tasks)
    settings = method.settings(record.params if record else bench.space.params(chosen, "subsets"))
    coefficients: Coefficients = {}
    if method.learned:
        coefficients = (
            record.coefficients if record else bench.fit(method, settings, tasks, config.seed).by_name(tasks)
        )
    return Again(bench, method, settings, tasks, record, coefficients)


def _recorded(config: Config, variant: Variant, tasks: list[str]) -> Merge | None:
    """A merge's record, if it was scored; the first of several seeds.

    Raises:
        Stale: today's code, settings, models and inputs would make another merge, or other scores.
    """
    key: dict[str, str | int] = {"variant": variant.name, "group": len(tasks)}
    path = Merge.place(config.folder, **key)
    records = Merge.read_lines(config.folder, **key, benchmark=config.benchmark) if path.exists() else []
    record = next((record for record in records if record.tasks == tasks), None)
    if record and not any(_follows(config, variant, record, way) for way in precisions(config)):
        raise Stale(f"{path}: the merge of {record.case} {CHANGED}: run its stage again")
    return record


class _Scored(Replay):
    """A replay with the parameters that a merge was scored with, whatever is chosen meanwhile."""

    def __init__(self, config: Config, computed_in: str, record: Merge) -> None:
        super().__init__(config, computed_in)
        self._used = record.params

    def params(self, variant: Variant, plan: str) -> dict[str, Any]:
        """A variant's parameters, with the values of tuned ones that were used."""
        given = self.config.params(variant)
        return {key: self._used.get(key, value) if is_tuned(value) else value for key, value in given.items()}


def _follows(config: Config, variant: Variant, record: Merge, precision: str) -> bool:
    """Whether a run in this precision has kept exactly this record under today's key."""
    bench, group = Bench(config, _Scored(config, precision, record)), str(record.size)
    names = [case.name for case in config.cases("subsets").get(group, [])]
    places = [place for place, name in enumerate(names) if name == record.case]
    try:
        now = [merge for k in places for merge in merges.made(bench, variant, group, slice(k, k + 1))]
    except Missing:
        return False
    return record.sealed() in [merge.sealed() for merge in now]


def coefficients_in(coefficients: Coefficients, name: str) -> list[float]:
    """The learned coefficients in one tensor."""
    return [c[layer_of(name)] if isinstance(c, Mapping) else c for c in coefficients.values()]
