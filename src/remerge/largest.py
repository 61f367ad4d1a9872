"""The largest jobs of a benchmark, and the GPU that suffices for all, from `remerge.needs`."""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import methodcaller

from remerge.batches import batches
from remerge.config import Config
from remerge.needs import Needs
from remerge.size import UNKNOWN, size_of
from remerge.units import Extent

GPUS = (16, 24, 32, 40, 48, 80, 141, 192)
"""The sizes of GPUs, in GB."""


@dataclass(frozen=True)
class Most:
    """The needs of the largest jobs of a kind.

    Attributes:
        memory: MB of the machine's memory, without a GPU.
        device: MB of the GPU, if there is one.
        job: the job that needs the most of it.
    """

    memory: int
    device: int
    job: str


def most(config: Config, extents: Mapping[str, Extent]) -> dict[str, Most]:
    """The needs of the largest jobs of each kind: experts, merges, other stages."""
    on_cpu, on_gpu = Needs(config, False, extents), Needs(config, True, extents)
    stages = ["base", "references", "scores"]
    stages += ["statistics"] if on_gpu.jobs.stage("statistics") else []
    kinds = {
        "experts": {task: methodcaller("expert", task) for task in config.models[1:]},
        "merges": {name: methodcaller("batch", batch) for name, batch in batches(config).items()},
        "other stages": {name: methodcaller("stage", name) for name in stages},
    }
    found = {}
    for kind, jobs in kinds.items():
        device = {name: of(on_gpu).device for name, of in jobs.items()}
        largest = max(device, key=lambda name: device[name])
        found[kind] = Most(max(of(on_cpu).memory for of in jobs.values()), device[largest], largest)
    return found


def described(config: Config, extents: Mapping[str, Extent]) -> list[str]:
    """The needs of the largest jobs of each kind, one line per kind, and a GPU that suffices for all.

    Args:
        config: the benchmark.
        extents: the sizes of the tasks of which they are known.
    """
    kinds = most(config, extents)
    lines = [
        f"{kind}: at most {_gb(m.memory)}, or {_gb(m.device)} of a GPU ({m.job})" for kind, m in kinds.items()
    ]
    memory = max(m.memory for m in kinds.values())
    lines.append(f"{suffices(kinds)}; without one, {_gb(memory)} of memory for each job at a time")
    if not size_of(config).known:
        lines.append(
            f"this is for {UNKNOWN} million weights, since {config.base.source} is not on this machine: "
            "set parameters to the number it has"
        )
    return lines


def suffices(kinds: Mapping[str, Most]) -> str:
    """The smallest GPU that is large enough for every job."""
    device = max(m.device for m in kinds.values())
    return next((f"one GPU of {gb} GB suffices" for gb in GPUS if gb * 1000 >= device), "no GPU suffices")


def _gb(mb: int) -> str:
    return f"{mb / 1000:.1f} GB"
