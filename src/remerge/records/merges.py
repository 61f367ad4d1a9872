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
        validation: the plan's merit of each merge on which it was tried, on validation splits.
        mean: the mean of these.
    """

    params: dict[str, Any]
    validation: dict[str, float]
    mean: float


class Selection(Record):
    """The grid of a variant's tuned parameters, and the point chosen for a plan's merges.

    Attributes:
        params: all parameters at the chosen point.
        subsets: the merges on which points were tried.
        grid: the points at which no merge diverged, in order.
        chosen: the tuned parameters at the chosen point.
        diverged: the tuned parameters at the other points, which have no merit.
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
        """A file in `selection`; for plans other than subsets, in a folder of the plan."""
        folder = Path(results) / "selection"
        return (folder if key["plan"] == "subsets" else folder / str(key["plan"])) / f"{key['variant']}.json"


class Seconds(Part):
    """The seconds that a merge took: merging weights, learning coefficients, scoring."""

    merge: float
    fit: float
    evaluate: float


class Course(Part):
    """The course of coefficients while they were learned.

    Attributes:
        steps: the optimiser's steps after which they were kept, from 0 to all.
        coefficients: those of each expert at each of these steps, as in the merge, to four decimals.
        scored: the steps at which the merge was also scored, if the benchmark asks for it.
        anp: the merge's ANP at each of these.
    """

    steps: list[int]
    coefficients: dict[str, list[float] | dict[str, list[float]]]
    scored: list[int] = Field(default_factory=list)
    anp: list[float] = Field(default_factory=list)


class Merge(Record):
    """One merge.

    Attributes:
        case: the merged experts, such as ``cola+mnli``, ``-cola``, ``rte+mnli-cola``.
        signs: the sign of each expert's task vector, 1 or -1.
        tasks: the tasks of the merged experts, sorted.
        params: the parameters actually used, including those chosen on validation scores.
        scores: the scores on the test splits of those of these tasks that judge the merge.
        others: the scores on tasks whose experts were not merged.
        normalised: each of ``scores`` as a share of the expert's own score.
        anp: 100 times the mean of ``normalised``; None if none of its own tasks judges the merge.
        anp_restricted: the same for restricted scores; None if a task has none.
        coefficients: for each expert a number, or one for each layer; empty if none are learned.
        trace: the loss of every step.
        course: the course of the coefficients, for a learned method.
        memory: the peak memory in bytes while the merge was made, before it was scored: allocated on a GPU,
            resident in the process on a CPU; None in records of earlier versions.
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
