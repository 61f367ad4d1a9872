"""What stages write and the report reads: each record's keys, types and place, and ANP.

A class says where its file lies below ``results/<benchmark>`` and what stands in it. What is read is checked
against that; a wrong file is refused by its name, line and key. Neither torch nor pandas is imported.
"""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from remerge.records._record import Part
from remerge.records._record import Record as Record
from remerge.variants import digest


class Model(Record):
    """A model: the `base`, `multitask`, or an expert, called by its task.

    Attributes:
        model: what it is called.
        fingerprint: a short name for its weights.
        files: the digest of every file that it is loaded from, by name.
        follows: of a model that was trained here, what its training followed from, each by a digest.
        versions: of the packages that trained it or found it.
        linearised_at: the fingerprint of the base that a linearised model is an expansion at.
    """

    model: str | None = None
    source: str
    path: str
    fingerprint: str
    files: dict[str, str]
    follows: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    family: str
    architecture: str
    parameters: int
    seconds: float
    device: str
    training: dict[str, int | float] = Field(default_factory=dict)
    linearised_at: str | None = None

    @classmethod
    def place(cls, results: Path, **key: str | int) -> Path:
        """`base.json`, or a file of `experts`."""
        model = key["model"]
        return Path(results) / ("base.json" if model == "base" else f"experts/{model}.json")

    @property
    def content(self) -> str:
        """A short name for all that the model is: weights, heads, configuration, tokenizer."""
        return digest(self.files)


class Made(Record):
    """A file that carries no record of its own: data, references, statistics; it lies beside it.

    Attributes:
        what: the file, below the results.
        digest: of its bytes, as `sha256sum` prints it.
        follows: what it was made from, each by a digest: models, inputs, code, settings.
        versions: of the packages that made it.
    """

    file = "{what}.json"

    what: str
    digest: str
    follows: dict[str, str]
    versions: dict[str, str]


class Score(Part):
    """A model's score on a split; with all three ROUGEs if it is judged by one.

    Attributes:
        metric: accuracy, rouge1, rouge2 or rougeL.
        value: from 0 to 1, strict: the greedy answer must equal the gold answer.
        restricted: the accuracy when only the task's own labels may be answered; None without labels.
        joint: the accuracy when the labels of all merged tasks may be answered, those of all tasks for a
            model that stands unmerged; None where labels of several tasks cannot be compared.
        n: the number of examples.
        outcomes: of each single one, as `remerge.outcomes` writes them; None in records of earlier versions.
    """

    model_config = ConfigDict(extra="allow")

    metric: str
    value: float
    restricted: float | None = None
    joint: float | None = None
    n: int
    outcomes: str | None = None


class Scores(Record):
    """One unmerged model on every task's test split."""

    file = "scores/{model}.json"

    benchmark: str
    model: str
    scores: dict[str, Score]


class Reference(Record):
    """The size and cost of an expert's kept answers."""

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


class Signs(Part):
    """Tallies of the signs of all experts' deltas at the positions of linear layers, in several spaces.

    In each ``[p][q]`` is the number of positions where p experts are positive and q negative; the others'
    entries are zero there, mostly by pruning.

    Attributes:
        unpruned: the weights as they are.
        original: the weights, pruned there.
        horizontal: DRM-H's joint space, pruned there.
        horizontal_back: the same, projected back to weights.
        vertical: DRM-V's joint space, pruned there.
        vertical_back: the same, projected back to weights.
    """

    unpruned: list[list[int]]
    original: list[list[int]]
    horizontal: list[list[int]]
    horizontal_back: list[list[int]]
    vertical: list[list[int]]
    vertical_back: list[list[int]]


class Dropped(Part):
    """The share of its entries that each basis vector of DRM-H's joint space loses to pruning.

    Attributes:
        matrix: whose joint space.
        share: of all entries that are dropped.
        plain: of each expert's vectors, largest singular value first, without renormalisation.
        renormalised: the same, with it.
    """

    matrix: str
    share: float
    plain: list[list[float]]
    renormalised: list[list[float]]


class Weights(Record):
    """How alike the experts' weight deltas are.

    Attributes:
        experts: the tasks, in the order of rows and columns.
        cosines: of task vectors, all merged weights as one vector.
        matrices: how many weights of linear layers there are.
        density: the share of entries kept where signs are pruned.
    """

    file = "weights.json"

    benchmark: str
    experts: list[str]
    cosines: list[list[float]]
    matrices: int
    density: float
    signs: Signs
    dropped: Dropped


class Aligned(Part):
    """How alike the experts are in one weight of a linear layer: CKA of every pair, on the same inputs.

    Attributes:
        matrix: the weight.
        layer: in which it lies.
        outputs: of W_t x, what the layer says with each expert's weight.
        updates: of ΔW_t x, what each expert adds.
        aligned: of V_t^T x, what KnOTS aligns.
    """

    matrix: str
    layer: str
    outputs: list[list[float]]
    updates: list[list[float]]
    aligned: list[list[float]]


class Alignment(Record):
    """How alike experts process inputs.

    Attributes:
        experts: the tasks, in the order of rows and columns.
        adapters: whether the experts are adapters, of all weights if not.
        inputs: of each task, so many.
        matrices: those that every expert has changed.
    """

    file = "alignment.json"

    benchmark: str
    experts: list[str]
    adapters: bool
    inputs: int
    matrices: list[Aligned]


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
    """What a merge took: merging weights, learning coefficients, scoring."""

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


def normalised(scores: Mapping[str, Score], own: Mapping[str, Score]) -> dict[str, float]:
    """Each task's score as a share of the score of its own expert (DivMerge, Eq. 5); NaN where that is 0."""
    return {task: _share(score.value, own[task].value) for task, score in scores.items()}


def normalised_restricted(scores: Mapping[str, Score], own: Mapping[str, Score]) -> dict[str, float]:
    """The same of restricted scores; NaN also where a task has none."""
    return {task: _share(score.restricted, own[task].restricted) for task, score in scores.items()}


def anp(shares: Mapping[str, float]) -> float:
    """The average normalised performance in percent (DivMerge, Eq. 5): 100 times the mean over the tasks.

    NaN of no task.
    """
    return 100 * sum(shares.values()) / len(shares) if shares else nan


def _share(score: float | None, own: float | None) -> float:
    return nan if score is None or not own else score / own
