"""The sections of a configuration: what may be said, and the defaults."""

import difflib
import hashlib
import json
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from remerge import sources
from remerge.errors import UserError

RESULTS = Path("results")
EXHIBITS = Path(__file__).parents[1] / "exhibits"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
Scalar = bool | int | float | str
Numbers = float | list[float] | dict[str, float]
Metric = Literal["accuracy", "rouge1", "rouge2", "rougeL"]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Miniature(Section):
    """Size and pretraining of the miniature base; read only when `base.source` is `miniature`."""

    architecture: Literal["qwen2", "llama", "t5", "deberta"] = "qwen2"
    hidden: PositiveInt = 128
    layers: PositiveInt = 3
    heads: PositiveInt = 4
    intermediate: PositiveInt = 256
    steps: PositiveInt = 2400
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 3e-3
    threads: PositiveInt = Field(2, description="CPU threads of the pretraining")


class Base(Section):
    """The pretrained model that every expert starts from."""

    family: Literal["causal_lm", "seq2seq", "classifier", "clip"] = Field(
        "causal_lm",
        description="how answers are read: in words, or by a head for each task (classifier, clip)",
    )
    source: str = Field(description="a hub id, a local folder, or `miniature`, trained here")
    revision: str | None = Field(None, description="commit or tag on the hub")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of computations on a GPU; a CPU computes in float32"
    )
    vocabulary: Literal["same", "common"] = Field(
        "same", description="of experts with added tokens: refuse them, or cut the rows that the base lacks"
    )
    miniature: Miniature = Miniature()

    @property
    def speaks(self) -> bool:
        """Whether answers are words; they are the classes of a head otherwise."""
        return self.family in ("causal_lm", "seq2seq")


class Splits(Section):
    """From which split of the source each of ours is drawn; one source split may serve several."""

    train: str = "train"
    validation: str = "validation"
    test: str = "test"
    stratify: bool = Field(False, description="each cut of a source split keeps its shares of the labels")


class Sizes(Section):
    """At most how many examples each split keeps."""

    train: PositiveInt = 6000
    validation: PositiveInt = 500
    test: PositiveInt = 500


class Task(Section):
    """One task: where its examples come from, how they are asked, what answers it takes."""

    source: str = Field(
        description="a hub id, a folder of <split>.jsonl, .csv, .parquet (also .gz), or `miniature`"
    )
    subset: str | None = Field(None, description="the configuration of the hub dataset")
    revision: str | None = None
    splits: Splits = Splits()
    sizes: Sizes = Sizes()
    prompt: str | None = Field(
        None, description="the model's input, a text with {column} and {column[key][0]} fields"
    )
    image: str | None = Field(None, description="the column that holds the image, of a task of images")
    answers: list[str] = Field(
        [],
        description="the answers in words, in the order of `labels`; they may have fields as `prompt`. None: "
        "`target` is the answer itself",
    )
    labels: list[int | str] | None = Field(
        None, description="the values of `target`, in the order of the answers; default: 0, 1, …"
    )
    target: str = Field(
        "label",
        description="the column that holds the label or the answer, or a text with fields as `prompt`",
    )
    captions: list[str] = Field(
        [], description="what an image may be called, with {answer}: their embedding is the head of a class"
    )
    metric: Metric = Field("accuracy", description="accuracy (of the whole answer), or a ROUGE F-measure")
    expert: str | None = Field(
        None, description="an existing expert, a hub id or local folder; default: fine-tuned here"
    )
    expert_revision: str | None = Field(None, description="its commit or tag on the hub")

    @model_validator(mode="after")
    def _whole(self) -> "Task":
        if (self.prompt is None) == (self.image is None):
            raise ValueError("give prompt, or image for a task of images")
        if self.answers and len(self.labels or self.answers) != len(self.answers):
            raise ValueError(f"labels: {len(self.labels or [])} for {len(self.answers)} answers")
        if len(self.answers) == 1:
            raise ValueError("answers: one is none to choose from")
        if self.labels and not self.answers:
            raise ValueError("labels need answers")
        return self


class Lora(Section):
    """Experts as LoRA adapters: the base stays, and low-rank matrices beside linear layers are trained."""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: list[str] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj"], description="the linear layers, by the end of their names"
    )


class Finetune(Section):
    """Supervised fine-tuning of the base on one task (AdamW, loss on the answer only)."""

    learning_rate: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.0
    batch_size: PositiveInt = Field(32, description="examples a step, over all accumulation")
    device_batch_size: PositiveInt | None = Field(
        None, description="examples that fit the device at once; default: the batch"
    )
    steps: PositiveInt = 1000
    multitask_steps: PositiveInt | None = Field(
        None, description="steps on the union of the tasks; default: the steps times the tasks"
    )
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.06, description="share of the steps")
    evaluations: NonNegativeInt = Field(
        0, description="how often the validation loss is taken; 0: never, the last step is kept"
    )
    patience: PositiveInt | None = Field(
        None, description="stop after so many evaluations without progress and keep the best step"
    )
    lora: Lora | None = Field(None, description="train adapters; default: all weights")
    multitask: bool = Field(
        True, description="also fine-tune the base on the union of the tasks, the upper reference"
    )

    @model_validator(mode="after")
    def _patience_needs_evaluations(self) -> "Finetune":
        if self.patience and not self.evaluations:
            raise ValueError("patience needs evaluations above 0")
        return self


class Variant(Section):
    """A merge method with the parameters that differ from its defaults."""

    name: str
    method: Name
    params: dict[str, Scalar | list[float] | dict[str, Numbers]] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {given: {}}
        if isinstance(given, dict) and len(given) == 1 and "name" not in given:
            ((method, params),) = given.items()
            given = {"method": method, "params": params or {}}
        if isinstance(given, dict) and isinstance(given.get("params"), dict) and "method" in given:
            given["name"] = variant_name(str(given["method"]), given["params"])
        return given


class Merge(Section):
    """Which merges are made: every variant, on every subset of the given sizes."""

    variants: list[Variant] = Field(min_length=1)
    sizes: list[PositiveInt] | None = Field(None, description="default: from 2 to all tasks")
    delta_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="in which weight deltas are held in memory"
    )

    @field_validator("variants")
    @classmethod
    def _distinct(cls, variants: list[Variant]) -> list[Variant]:
        names = [variant.name for variant in variants]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"variant {sorted(twice)[0]} stands twice")
        return variants


class PerLevel(Section):
    """A number for each level of coefficients."""

    task: PositiveInt = 200
    layer: PositiveInt = 400


class Select(Section):
    """The grid of the learned methods, the same for all; the best mean validation ANP wins."""

    learning_rate: list[PositiveFloat] = Field([0.003, 0.01, 0.03], min_length=1)
    initial: list[float | Literal["1/T"]] = Field([0.5, "1/T"], min_length=1)
    subsets: list[str] = Field([], description="on which merges, as task+task; default: all tasks")


class Learning(Section):
    """How coefficients are learned (DivMerge, Table 9)."""

    inputs: PerLevel = Field(PerLevel(), description="unlabelled validation inputs of each task")
    references: PositiveInt = Field(
        500, description="validation inputs of each task on which its expert's answers are kept"
    )
    epochs: dict[Name, PositiveInt] = {"adamerging": 5, "divmerge": 4}
    batch_size: PositiveInt = Field(1, description="inputs of each task at every step")
    select: Select = Select()


class Statistics(Section):
    """What fisher and regmean know of an expert beyond its weights."""

    inputs: PositiveInt = Field(256, description="training inputs of the expert's task, without labels")


class Evaluation(Section):
    """How models are scored."""

    batch_size: PositiveInt = 64


class Config(Section):
    """One benchmark."""

    benchmark: Name
    paper: Name | None = Field(
        None,
        description="whose tables and figures are drawn: a folder of remerge.exhibits",
    )
    seed: NonNegativeInt = 0
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    threads: PositiveInt = Field(1, description="CPU threads of a job; they fix the bytes")
    base: Base
    tasks: dict[TaskName, Task] = Field(min_length=2)
    finetune: Finetune = Finetune()
    merge: Merge
    learning: Learning = Learning()
    statistics: Statistics = Statistics()
    evaluation: Evaluation = Evaluation()

    @property
    def folder(self) -> Path:
        """Where everything this benchmark makes lies."""
        return RESULTS / self.benchmark

    @property
    def models(self) -> list[str]:
        """The models that stand unmerged: the base, the multitask model if there is one, every expert."""
        return ["base", *(["multitask"] if self.finetune.multitask else []), *self.tasks]

    @property
    def sizes(self) -> list[int]:
        """The sizes of the subsets that are merged."""
        return self.merge.sizes or list(range(2, len(self.tasks) + 1))

    def subsets(self, size: int) -> list[tuple[str, ...]]:
        """The subsets of a size that are merged, each sorted."""
        return list(combinations(sorted(self.tasks), size))

    def variant(self, name: str) -> Variant:
        """The variant called ``name``.

        Raises:
            UserError: there is none.
        """
        for variant in self.merge.variants:
            if variant.name == name:
                return variant
        raise UserError(_unknown("variant", name, [v.name for v in self.merge.variants]))

    def task(self, name: str) -> Task:
        """The task called ``name``.

        Raises:
            UserError: there is none.
        """
        if name not in self.tasks:
            raise UserError(_unknown("task", name, list(self.tasks)))
        return self.tasks[name]

    def subset(self, written: str) -> list[str]:
        """The tasks of a subset as it is written in paths, ``cola+mnli``.

        Raises:
            UserError: an unknown task, fewer than two, or another order than the alphabet's.
        """
        tasks = written.split("+")
        in_order = sorted({name for name in tasks if self.task(name)})
        if tasks != in_order or len(tasks) < 2:
            raise UserError(
                f"subset {written!r}: name two tasks or more, sorted, each once: {'+'.join(in_order)}"
            )
        return tasks

    def initial_subsets(self) -> list[tuple[str, ...]]:
        """The subsets on which learned methods choose their settings."""
        return [tuple(sorted(s.split("+"))) for s in self.learning.select.subsets] or [
            tuple(sorted(self.tasks))
        ]

    @field_validator("paper")
    @classmethod
    def _known(cls, paper: str | None) -> str | None:
        papers = [folder.parent.name for folder in EXHIBITS.glob("*/__init__.py")]
        if paper is not None and paper not in papers:
            raise ValueError(_unknown("paper", paper, sorted({*papers} - {"general", "compare"})))
        return paper

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        for reserved in {"base", "multitask"} & set(self.tasks):
            raise ValueError(f"tasks.{reserved}: the name is taken by a reference model")
        for name, asked in self.tasks.items():
            if (asked.image is None) == (self.base.family == "clip"):
                raise ValueError(f"tasks.{name}: clip reads image, every other family prompt")
            if not self.base.speaks and (not asked.answers or asked.metric != "accuracy"):
                raise ValueError(
                    f"tasks.{name}: {self.base.family} tells classes apart: name them in answers, "
                    "and leave metric at accuracy"
                )
        for size in self.merge.sizes or []:
            if size > len(self.tasks):
                raise ValueError(f"merge.sizes: {size} is more than the {len(self.tasks)} tasks")
        for subset in self.learning.select.subsets:
            for task in subset.split("+"):
                if task not in self.tasks:
                    raise ValueError(f"learning.select.subsets: {_unknown('task', task, list(self.tasks))}")
        for variant in self.merge.variants:
            if variant.method not in sources.known():
                raise ValueError(
                    f"merge.variants: {_unknown('method', variant.method, list(sources.known()))}"
                )
        return self


def variant_name(method: str, params: dict[str, Any]) -> str:
    """``ties`` or ``ties@density=0.1,scale=1.2``: the folder of a variant's results.

    Of a parameter that is a mapping it has a digest.
    """

    def word(value: Any) -> str:
        if isinstance(value, dict):
            return digest(value)[:8]
        return "+".join(map(str, value)) if isinstance(value, list) else str(value)

    if not params:
        return method
    return f"{method}@" + ",".join(f"{key}={word(params[key])}" for key in sorted(params))


def _unknown(kind: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} {name!r}, {hint}"


def digest(*parts: Any) -> str:
    """A short name for exactly these values."""
    text = json.dumps(parts, sort_keys=True, default=lambda part: part.model_dump(mode="json"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
