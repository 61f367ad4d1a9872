"""The cost of a run, as shown on the page: one row per stage and per batch of merges."""

from collections.abc import Sequence
from typing import Any

from remerge.batches import batches
from remerge.records import Cost
from remerge.report.run import Run
from remerge.report.table import MISSING, number

MERGING = ("batch", "share")
"""The stages that merge; a batch is named after its method or variant."""


def costs(run: Run) -> list[dict[str, Any]]:
    """The rows, longest time first, and their total; none without records.

    Tasks and batches of an earlier configuration are left out.
    """
    known = {"", *run.config.models, *batches(run.config)}
    of: dict[str, list[Cost]] = {}
    for job in run.jobs:
        stage, *rest = job.split("/")
        batch = "/".join(rest[:-1] if stage == "share" else rest)
        if (batch if stage in MERGING else "".join(rest[:1])) in known:
            label = f"merges: {batch}" if stage in MERGING else stage
            of.setdefault(label, []).append(run.cost(job))
    longest = sorted(of, key=lambda label: -sum(cost.seconds for cost in of[label]))
    rows = [_row(label, of[label]) for label in longest]
    return [*rows, _row("total", [cost for some in of.values() for cost in some])] if rows else []


def _row(label: str, some: Sequence[Cost]) -> dict[str, Any]:
    gpu = max(cost.gpu for cost in some)
    return {
        "label": label,
        "jobs": f"{len(some):,}",
        "seconds": sum(cost.seconds for cost in some),
        "cpu": sum(cost.cpu for cost in some),
        "memory": number(max(cost.memory for cost in some) / 1e9, 2),
        "gpu": number(gpu / 1e9, 2) if gpu else MISSING,
        "passes": f"{sum(cost.passes for cost in some):,}",
    }
