"""The performance of a model: scores, ANP, divergences from the experts."""

from collections.abc import Mapping
from math import nan

from pydantic import ConfigDict

from remerge.records._record import Part, Record


class Score(Part):
    """A model's score on a split, with all three ROUGEs if it is judged by one.

    Attributes:
        metric: the task's, as in the configuration.
        value: from 0 to 1, a correlation from -1; accuracy is strict: the greedy answer must equal the gold
            answer.
        restricted: the accuracy when only the task's own labels may be answered; None without labels.
        joint: the accuracy when the labels of all merged tasks may be answered, those of all tasks for a
            model that is not merged; None if labels of several tasks cannot be compared.
        n: the number of examples.
        outcomes: the outcome of each example, as `remerge.outcomes` writes them; None in earlier versions.
        taken: the option that was taken in each example of a choice, likewise.
    """

    model_config = ConfigDict(extra="allow")

    metric: str
    value: float
    restricted: float | None = None
    joint: float | None = None
    n: int
    outcomes: str | None = None
    taken: str | None = None


class Scores(Record):
    """One unmerged model on every task's test split."""

    file = "scores/{model}.json"

    benchmark: str
    model: str
    scores: dict[str, Score]


class Reference(Record):
    """The size and cost of an expert's stored answers."""

    file = "references/{task}.json"

    task: str
    inputs: int
    positions: int
    seconds: float
    device: str


class Divergence(Part):
    """How far a model is from a task's expert on ``n`` of its validation inputs, in nats."""

    kl: float
    js: float
    n: int


class Divergences(Record):
    """One expert against every task's own."""

    file = "divergences/{model}.json"

    benchmark: str
    model: str
    divergences: dict[str, Divergence]


def normalised(scores: Mapping[str, Score], own: Mapping[str, Score]) -> dict[str, float]:
    """Each task's score as a share of the score of its own expert (DivMerge, Eq. 5); NaN where that is 0."""
    return {task: _share(score.value, own[task].value) for task, score in scores.items()}


def normalised_restricted(scores: Mapping[str, Score], own: Mapping[str, Score]) -> dict[str, float]:
    """The same for restricted scores; NaN also where a task has none."""
    return {task: _share(score.restricted, own[task].restricted) for task, score in scores.items()}


def anp(shares: Mapping[str, float]) -> float:
    """The average normalised performance in percent (DivMerge, Eq. 5): 100 times the mean over the tasks.

    NaN without tasks.
    """
    return 100 * sum(shares.values()) / len(shares) if shares else nan


def _share(score: float | None, own: float | None) -> float:
    return nan if score is None or not own else score / own
