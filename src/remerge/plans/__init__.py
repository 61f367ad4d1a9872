"""Plans: which merges are made, which tasks judge them, and how settings are compared.

A plan is a file: a class whose fields are the keys that a configuration may set under ``plans``.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from remerge.errors import unknown

Number = Annotated[int, Field(gt=0, strict=True)]
"""A number from 1, which the words yes and true do not pass for."""

Scores = Mapping[str, float]
"""A score for each task."""


@dataclass(frozen=True)
class Case:
    """One merge, and the tasks that judge it.

    Attributes:
        name: such as ``cola+mnli``, ``-cola``, ``cola+mnli-sst2``.
        signs: the experts, each with the sign of its task vector, 1 or -1.
        judged: the tasks on which the merge is scored.
    """

    name: str
    signs: Mapping[str, int]
    judged: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The merged experts."""
        return tuple(self.signs)


@dataclass(frozen=True)
class Unmerged:
    """The models that merges are compared with on a split: each task's own expert, and the base.

    Attributes:
        own: the score of a task's own expert on that task.
        base: the base's score on it.
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
            ValueError: the plan names an unknown task, or does not fit the tasks.
        """
        raise NotImplementedError

    def tuning(self, cases: Mapping[str, list[Case]]) -> list[Case]:
        """The merges on which tuned parameters are chosen: all, unless a plan says otherwise."""
        return [case for group in cases.values() for case in group]

    def merit(self, case: Case, scores: Scores, unmerged: Unmerged) -> float:
        """The merit of a setting, from validation scores on the judged tasks: higher is better."""
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
    """Refuse names that are not tasks.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if name not in tasks:
            raise ValueError(unknown("task", name, tasks))


def must_differ(where: str, names: Sequence[str]) -> None:
    """Refuse a name that is given twice.

    Raises:
        ValueError: one is.
    """
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: {name} is given twice: leave one out")
