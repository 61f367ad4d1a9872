"""What a run has kept: its stages again, from their journals only."""

from collections.abc import Callable
from typing import Any

import torch

from remerge.config import Config
from remerge.journal import Journal
from remerge.stages._workspace import Workspace

CHANGED = "does not follow from today's code, settings, models and inputs"
"""What is said of a record that the journals do not have under today's key."""


class Missing(Exception):
    """A value is not in the journal."""


class Kept(Journal):
    """A journal that computes nothing."""

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The record under ``key``.

        Raises:
            Missing: there is none.
        """
        if key not in self.entries:
            raise Missing
        return self.entries[key].record


class Replay(Workspace):
    """A workspace in which nothing is computed.

    Args:
        config: the benchmark's configuration.
        computed_in: the precision of the run, which may have had a GPU where this machine has none.
    """

    kept = Kept
    """The kind of its journals."""

    def __init__(self, config: Config, computed_in: str) -> None:
        super().__init__(config)
        self.device, self._precision = torch.device("cpu"), computed_in

    @property
    def precision(self) -> str:
        """The precision of the run."""
        return self._precision

    def journal(self, kind: Any, *parts: str) -> Journal:
        """A journal of this benchmark that computes nothing."""
        return self.kept(self.journal_file(*parts), kind)


def precisions(config: Config) -> list[str]:
    """The precisions that a run may have: the configured one on a GPU, and float32 on a CPU."""
    return list(dict.fromkeys([config.base.dtype, "float32"]))
