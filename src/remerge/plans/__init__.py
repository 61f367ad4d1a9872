"""Plans: which merges are made, who judges them, and what makes one setting better than another.

A plan is a file: a class whose fields are the keys that a configuration may set under ``plans``.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

Scores = Mapping[str, float]
"""A score for each task."""


@dataclass(frozen=True)
class Case:
    """One merge that is made, and who judges it.

    Attributes:
        name: ``cola+mnli``, ``-cola``, ``cola+mnli-sst2``.
        signs: the experts with the sign of their task vectors, 1 or -1.
        judged: the tasks on which the merge is scored.
    """

    name: str
    signs: Mapping[str, int]
    judged: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The experts of which it is made."""
        return tuple(self.signs)


@dataclass(frozen=True)
class Unmerged:
    """The models that merges are compared with on a split: each task's own expert, and the base.

    Attributes:
        own: a task's own expert's score on it.
        base: the base's.
    """

    own: Callable[[str], float]
    base: Callable[[str], float]


class Plan(BaseModel):
    """The settings that every plan has."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    variants: list[str] | None = Field(
        None, description="the variants of this plan, by name; default: all that it can use"
    )

    def cases(self, tasks: Sequence[str], seed: int) -> dict[str, list[Case]]:
        """The merges of each group; a group is a file of records.

        Raises:
            ValueError: the plan names a task that there is not, or fits none.
        """
        raise NotImplementedError

    def tuning(self, cases: Mapping[str, list[Case]]) -> list[Case]:
        """The merges on which tuned parameters are chosen: all, if a plan says nothing else."""
        return [case for group in cases.values() for case in group]

    def merit(self, case: Case, scores: Scores, unmerged: Unmerged) -> float:
        """The figure of merit of a setting, from validation scores on the judged tasks: higher wins."""
        raise NotImplementedError


def known() -> dict[str, type[Plan]]:
    """Every plan by the name of its file."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        module = importlib.import_module(f"{__name__}.{file.stem}")
        found[file.stem] = next(
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Plan) and value.__module__ == module.__name__
        )
    return found


def must_be_tasks(names: Sequence[str], tasks: Sequence[str]) -> None:
    """Refuse names that are no tasks.

    Raises:
        ValueError: one is none.
    """
    for name in names:
        if name not in tasks:
            raise ValueError(f"unknown task {name!r}, known: {', '.join(tasks)}")
