"""One merge of a benchmark that is made again, as it was scored: for a folder, or in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from remerge.config import Config
from remerge.deltas import layer_of
from remerge.errors import UserError
from remerge.folders.card import Coefficients
from remerge.learn import Blend
from remerge.methods import Method, find
from remerge.records import Merge
from remerge.stages._bench import Bench


@dataclass(frozen=True)
class Again:
    """A merge of a benchmark that is to be made again.

    Attributes:
        bench: of its tasks alone, for no other's head belongs to the merge.
        method: how to merge.
        settings: all its parameters.
        tasks: whose experts are merged, sorted.
        record: of the merge, if it was scored.
        coefficients: those that were learned.
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
        """By the arithmetic that the merge was scored with."""
        tau = self.bench.task_vectors(self.settings["over"], self.tasks)
        blend = Blend(self.bench.model, self.bench.base, tau)
        columns = {layer_of(name): coefficients_in(self.coefficients, name) for name in tau}
        lam = torch.tensor([columns[layer] for layer in blend.layers], device=self.bench.space.device)
        blend.write(lam.T)


def again(config: Config, variant: str, subset: str) -> Again:
    """Read what one merge is made of; coefficients are its record's, or learned here where it has none.

    Args:
        config: the benchmark.
        variant: how to merge.
        subset: the experts, `task+task`, sorted.

    Raises:
        UserError: an unknown variant or task, or a subset written otherwise.
    """
    if config.finetune.linear:
        raise UserError(
            f"finetune.recipe {config.finetune.recipe}: a merge of linearised models is none that "
            "from_pretrained reads: it is scored here, and cannot be exported"
        )
    chosen, tasks = config.variant(variant), config.subset(subset)
    bench = Bench(config.model_copy(update={"tasks": {task: config.tasks[task] for task in tasks}}))
    method = find(chosen.method)
    settings = method.settings(bench.space.params(chosen, "subsets"))
    record = _recorded(config, variant, tasks)
    coefficients: Coefficients = {}
    if method.learned:
        coefficients = (
            record.coefficients if record else bench.fit(method, settings, tasks, config.seed).by_name(tasks)
        )
    return Again(bench, method, settings, tasks, record, coefficients)


def _recorded(config: Config, variant: str, tasks: list[str]) -> Merge | None:
    """A merge's record, if it was scored; of several seeds the first."""
    key: dict[str, str | int] = {"variant": variant, "group": len(tasks)}
    made = Merge.place(config.folder, **key).exists()
    records = Merge.read_lines(config.folder, **key, benchmark=config.benchmark) if made else []
    return next((record for record in records if record.tasks == tasks), None)


def coefficients_in(coefficients: Coefficients, name: str) -> list[float]:
    """The learned coefficients in one tensor."""
    return [c[layer_of(name)] if isinstance(c, Mapping) else c for c in coefficients.values()]
