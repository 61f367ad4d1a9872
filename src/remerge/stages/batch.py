"""A batch: choices of parameters, and merges, in one process that loads base, experts and inputs once."""

from remerge.batches import batch_of
from remerge.config import Config
from remerge.stages import merges, selection
from remerge.stages._bench import Bench


def run(config: Config, batch: str) -> None:
    """Choose the parameters and make the merges of one batch, such as all merges of a method."""
    asked, bench = batch_of(config, batch), Bench(config)
    for plan, variant in asked.choices:
        selection.choose(bench, variant, plan)
    for variant, group in asked.merges:
        merges.make(bench, variant, group)
