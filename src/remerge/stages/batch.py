"""A batch: choices of parameters and merges, made in one process that loads base, experts and inputs once."""

from remerge.batches import batches
from remerge.config import Config
from remerge.config.sections import unknown
from remerge.errors import UserError
from remerge.stages import merges, selection
from remerge.stages._bench import Bench


def run(config: Config, batch: str) -> None:
    """Choose the parameters and make the merges of one batch, such as all merges of a method."""
    known = batches(config)
    if batch not in known:
        raise UserError(unknown("batch", batch, list(known)))
    bench = Bench(config)
    for plan, variant in known[batch].choices:
        selection.choose(bench, variant, plan)
    for variant, group in known[batch].merges:
        merges.make(bench, variant, group)
