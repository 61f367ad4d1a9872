"""A share of a batch: trials and merges in journals, from which the batch writes its records."""

from remerge.batches import batch_of
from remerge.config import Config
from remerge.errors import UserError
from remerge.stages import merges, selection
from remerge.stages._bench import Bench
from remerge.stages._workspace import Workspace


def run(config: Config, batch: str, share: int) -> None:
    """Make one share of a batch, counted from 1; `remerge batch` writes the records when all are made."""
    shares = batch_of(config, batch).shares(config)
    if not shares:
        raise UserError(f"batch {batch} has no shares, since shards is 1: run remerge batch")
    if not 1 <= share <= len(shares):
        raise UserError(f"batch {batch} has no share {share}: give a number from 1 to {len(shares)}")
    own, bench = shares[share - 1], Bench(config, Workspace(config, share))
    for plan, variant, part in own.choices:
        selection.keep(bench, variant, plan, part)
    for variant, group, part in own.merges:
        merges.keep(bench, variant, group, part)
