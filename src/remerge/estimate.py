"""Rough seconds of work on a machine of which nothing is known but whether it has a GPU."""

from remerge.amounts import ANSWERS_AT_ONCE
from remerge.config import Config
from remerge.size import FLOAT32, Size
from remerge.units import Unit, Work

TOKENS = 256
"""Tokens of an input."""

SPEED = {"cpu": 10e9, "gpu": 10e12}
"""Assumed operations per second of a CPU's thread and of a GPU."""

PASS = 0.05
"""The least time of a pass through the model, in seconds."""

MERGE = 1.0
"""The least seconds that a merge takes."""

MERGED = {"cpu": 40e6, "gpu": 2e9}
"""Weights of experts that are merged in a second, by a CPU's thread and by a GPU."""

DECOMPOSED = {"cpu": 1e9, "gpu": 20e9}
"""The same for methods that decompose matrices, in weights times the width of a layer."""

DISK = 5e8
"""Assumed bytes per second when a model is read."""


def decomposes(config: Config, method: str) -> bool:
    """Whether a method decomposes matrices."""
    known = config.known.get(method)
    return known is not None and known.family == "decomposition"


class Estimate:
    """The time of one benchmark's jobs.

    Args:
        config: the benchmark.
        size: the size of its base.
        gpu: whether jobs use a GPU.
        changed: the number of weights that an expert changes.
        held: the number of those that hold its change, fewer where it is an adapter.
    """

    def __init__(self, config: Config, size: Size, gpu: bool, changed: float, held: float) -> None:
        self.config, self.size, self.changed, self.held = config, size, changed, held
        self.device, self.threads = ("gpu", 1) if gpu else ("cpu", config.threads)

    def seconds(self, work: Work) -> float:
        """The seconds of some work, where a backward pass counts as two forward passes."""
        total = 0.0
        for unit, count in work.items():
            tokens = (3 if unit.backward else 1) * TOKENS * unit.inputs
            if unit.kind == "answer":  # of which each pass makes one token
                tokens += ANSWERS_AT_ONCE * unit.passes
            operations = 2 * self.size.parameters * tokens / (SPEED[self.device] * self.threads)
            passing = PASS * unit.passes * (2 if unit.backward else 1)
            total += count * (max(operations, passing) + self._beside(unit))
        return total

    def _beside(self, unit: Unit) -> float:
        """The seconds of a unit besides passes through a model."""
        if unit.kind == "load":
            return self.size.parameters * FLOAT32 / DISK
        return MERGE + self._merging(unit) / self.threads if unit.kind == "merge" else 0.0

    def _merging(self, unit: Unit) -> float:
        """The seconds of one thread for a merge, which may work on the factors of adapters."""
        if not decomposes(self.config, unit.of):
            return unit.experts * self.changed / MERGED[self.device]
        return unit.experts * self.held * self.size.hidden / DECOMPOSED[self.device]
