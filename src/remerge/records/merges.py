"""Merges, and the choice of their parameters."""

from pathlib import Path
from typing import Any

from pydantic import Field

from remerge.records._record import Part, Record
from remerge.records.scores import Score


class Point(Part):
    """One point of a grid.

    Attributes:
        params: the tuned parameters.
        validation: what each merge that it was tried on reached on validation splits, by the plan's merit.
        mean: of these.
    """

    params: dict[str, Any]
    validation: dict[str, float]
    mean: float


class Selection(Record):
    """The grid of a variant's tuned parameters, and the point that was chosen for a plan's merges.

    Attributes:
        params: all parameters at the chosen point.
        subsets: the merges on which points were tried.
        grid: the points at which no merge diverged, in order.
        chosen: the tuned parameters at the chosen point.
        diverged: the tuned parameters at the other points, which no merit can be told of.
    """

    benchmark: str
    variant: str
    method: str
    plan: str
    params: dict[str, Any]
    subsets: list[str]
    grid: list[Point]
    chosen: dict[str, Any]
    diverged: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def place(cls, results: Path, **key: str | int) -> Path:
        """A file of `selection`, of other plans than the subsets' in a folder of the plan."""
        folder = Path(results) / "selection"
        return (folder if key["plan"] == "subsets" else folder / str(key["plan"])) / f"{key['variant']}.json"


class Seconds(Part):
    """The seconds that a merge took: merging weights, learning coefficients, scoring."""

    merge: float
    fit: float
    evaluate: float


class Course(Part):
    """How coefficients went while they were learned.

    Attributes:
        steps: after how many steps of the optimiser they were kept, from 0 to all.
        coefficients: of each expert, at each of these steps, as the merge's own, to four decimals.
        scored: the steps at which the merge was scored too, where the benchmark asks for it.
        anp: of the merge at each of these.
    """

    steps: list[int]
    coefficients: dict[str, list[float] | dict[str, list[float]]]
    scored: list[int] = Field(default_factory=list)
    anp: list[float] = Field(default_factory=list)


class Merge(Record):
    """One merge.

    Attributes:
        case: what was merged, ``cola+mnli``, ``-cola``, ``rte+mnli-cola``.
        signs: of each expert's task vector, 1 or -1.
        tasks: those of the experts merged, sorted.
        params: those really used, what was chosen on validation scores included.
        scores: on the test splits of these tasks, those that judge the merge.
        others: scores on tasks of which no expert was merged.
        normalised: each of ``scores`` as a share of the expert's own.
        anp: 100 times the mean of ``normalised``; None where none of its own tasks judges the merge.
        anp_restricted: the same of restricted scores; None where a task has none.
        coefficients: of each expert a number, or one for each layer; empty if none are learned.
        trace: the loss of every step.
        course: the coefficients on their way, of a learned method.
        memory: the most bytes held while the merge was made, before it was scored: allocated on a GPU,
            resident of the process on a CPU; None in records of earlier versions.
    """

    file = "merges/{variant}/{group}.jsonl"

    benchmark: str
    variant: str
    method: str
    case: str
    signs: dict[str, int]
    tasks: list[str]
    size: int
    params: dict[str, Any]
    seed: int
    coefficients: dict[str, float | dict[str, float]]
    trace: list[float]
    course: Course | None = None
    scores: dict[str, Score]
    others: dict[str, Score]
    normalised: dict[str, float]
    anp: float | None
    anp_restricted: float | None
    seconds: Seconds
    memory: int | None = None
