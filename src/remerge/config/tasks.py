"""The section of a task: where its examples come from, and what a model is asked and answers."""

from typing import Literal, get_args

from pydantic import Field, StrictBool, model_validator

from remerge.config._section import Count, Section, Text
from remerge.templates import columns

Kind = Literal["train", "validation", "test"]
SPLITS: tuple[Kind, ...] = get_args(Kind)

Choice = Literal["choice", "choice_by_length"]
OfTwo = Literal["matthews", "f1"]
OfNumbers = Literal["pearson", "spearman"]
Rouge = Literal["rouge1", "rouge2", "rougeL"]
Metric = Literal["accuracy", Choice, OfTwo, Rouge, "exact_match", "token_f1", "last_number", OfNumbers]

RIGHT_OR_WRONG: tuple[str, ...] = ("accuracy", *get_args(Choice))
"""The metrics by which each answer is right or wrong."""

OF_TWO: tuple[str, ...] = get_args(OfTwo)
"""The metrics of tasks with two answers that judge all choices together."""

OF_NUMBERS: tuple[str, ...] = get_args(OfNumbers)
"""The metrics that judge all numbers in free answers together."""


class Splits(Section):
    """The source split from which each split here is drawn; one source split may serve several."""

    train: Text = "train"
    validation: Text = "validation"
    test: Text = "test"
    stratify: bool = Field(False, description="keep the shares of the labels when a source split is divided")


class Sizes(Section):
    """The largest number of examples in each split."""

    train: Count = 6000
    validation: Count = 500
    test: Count = 500


class Task(Section):
    """One task: the source of its examples, its prompt, and its answers."""

    source: Text = Field(
        description="a hub id, a folder of <split>.jsonl, .csv, .parquet (also .gz), or `miniature`"
    )
    subset: Text | None = Field(None, description="the configuration of the hub dataset")
    revision: Text | None = None
    splits: Splits = Splits()
    sizes: Sizes = Sizes()
    prompt: str | None = Field(
        None, description="the model's input: a text with fields {column}, {column[key][0]} and {number:.1f}"
    )
    image: Text | None = Field(None, description="the column of the image, for a task of images")
    answers: list[str] = Field(
        [],
        description="the answers in words, in the order of `labels`; may contain fields like `prompt`. If "
        "empty, `target` is the answer itself",
    )
    labels: list[StrictBool | int | str] | None = Field(
        None,
        description="the values of `target`, in the order of the answers; may contain fields like `prompt`, "
        "where examples label their answers each in its own way; default: 0, 1, …",
    )
    target: Text = Field(
        "label",
        description="the column of the label or the answer, or a text with fields like `prompt`",
    )
    captions: list[str] = Field(
        [], description="captions of an image, with {answer}: their embedding is the head of a class"
    )
    metric: Metric = Field(
        "accuracy",
        description="accuracy (the answer is the gold one, token by token), a ROUGE F-measure, exact_match "
        "and token_f1 (SQuAD's, of words without case, punctuation and articles), or last_number (the last "
        "numbers are equal), or pearson and spearman (the correlation of the last numbers with the gold "
        "ones; an answer without a number is a 0); or choice (the likeliest of `answers` is the gold one), "
        "choice_by_length (the likeliest per character); or, of two answers, matthews and f1 (Matthews' "
        "correlation of the choices, and the F1 of the second answer)",
    )
    answer_tokens: Count | None = Field(
        None,
        description="the most tokens of an answer that is decoded, unless the longest gold answer has more; "
        "default: 16, of an encoder-decoder 64",
    )
    expert: Text | None = Field(
        None, description="an existing expert: a hub id or local folder; by default, one is fine-tuned here"
    )
    expert_revision: Text | None = Field(None, description="the expert's commit or tag on the hub")
    missing: Literal["refuse", "drop"] = Field(
        "refuse", description="examples that lack a text, an image or a label: refuse them or leave them out"
    )

    @property
    def chooses(self) -> bool:
        """Whether a model that answers in words chooses the likeliest of an example's answers."""
        return self.metric in (*get_args(Choice), *OF_TWO)

    @property
    def classifies(self) -> bool:
        """Whether answers are fed in, and none is decoded."""
        return self.metric == "accuracy" or self.chooses

    @property
    def together(self) -> bool:
        """Whether the answers to all examples are judged together."""
        return self.metric in (*OF_TWO, *OF_NUMBERS)

    @property
    def templates(self) -> list[str]:
        """The texts with fields."""
        labels = [label for label in self.labels or [] if isinstance(label, str)]
        target = [self.target] if "{" in self.target else []
        return [*filter(None, [self.prompt]), *self.answers, *labels, *target]

    @property
    def columns(self) -> set[str]:
        """The columns of the source that are read."""
        asked = {column for text in self.templates for column in columns(text)}
        return asked | {*filter(None, [self.image])} | ({self.target} if "{" not in self.target else set())

    @model_validator(mode="after")
    def _whole(self) -> "Task":
        for text in self.templates:
            columns(text)
        for caption in self.captions:
            if columns(caption) != {"answer"}:
                raise ValueError(f"captions: {caption[:40]!r} needs the field {{answer}}, and no other")
        if self.expert_revision and not self.expert:
            raise ValueError("expert_revision is of no expert: give expert, or leave it out")
        if (self.prompt is None) == (self.image is None):
            raise ValueError("give prompt, or image for a task of images")
        if self.prompt is not None and not columns(self.prompt):
            raise ValueError("prompt names no column, so that every input is the same: write {column}")
        if len(set(map(str, self.labels or []))) < len(self.labels or []):
            raise ValueError("labels: one is given twice: leave it out")
        if self.answers and len(self.labels or self.answers) != len(self.answers):
            raise ValueError(
                f"labels: {len(self.labels or [])} for {len(self.answers)} answers: give one each"
            )
        if len(self.answers) == 1:
            raise ValueError("answers: name two or more, or none if the answer is free text")
        if self.chooses and not self.answers:
            raise ValueError(f"metric: {self.metric} is one of answers: name them, or use another metric")
        if self.metric in OF_TWO and len(self.answers) != 2:
            raise ValueError(f"metric: {self.metric} is of two answers: use accuracy or choice for more")
        if self.metric in OF_NUMBERS and self.answers:
            raise ValueError(f"metric: {self.metric} compares numbers in free answers: leave answers out")
        if self.chooses and self.answer_tokens:
            raise ValueError(f"answer_tokens: {self.metric} decodes no answer: leave it out")
        if self.labels and not self.answers:
            raise ValueError("labels need answers: give answers, or leave labels out")
        return self
