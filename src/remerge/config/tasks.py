"""The section of a task: where its examples come from, and what a model is asked and answers."""

from typing import Literal, get_args

from pydantic import Field, StrictBool, model_validator

from remerge.config._section import Count, Section, Text
from remerge.templates import columns

Kind = Literal["train", "validation", "test"]
SPLITS: tuple[Kind, ...] = get_args(Kind)

Choice = Literal["choice", "choice_by_length"]
Metric = Literal["accuracy", "rouge1", "rouge2", "rougeL", "exact_match", "token_f1", "last_number", Choice]

CHOICES: tuple[str, ...] = get_args(Choice)
"""The metrics by which the likeliest of an example's answers is chosen."""

RIGHT_OR_WRONG = ("accuracy", *CHOICES)
"""The metrics by which answers are fed in, and judged right or wrong; by others, they are decoded."""


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
        None, description="the model's input: a text with fields {column} and {column[key][0]}"
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
        "numbers are equal); or choice (the likeliest of `answers` is the gold one) and choice_by_length "
        "(the likeliest per character)",
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
        """Whether the likeliest of an example's answers is chosen."""
        return self.metric in CHOICES

    @property
    def right_or_wrong(self) -> bool:
        """Whether answers are judged right or wrong, and none is decoded."""
        return self.metric in RIGHT_OR_WRONG

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
        if self.chooses and self.answer_tokens:
            raise ValueError(f"answer_tokens: {self.metric} decodes no answer: leave it out")
        if self.labels and not self.answers:
            raise ValueError("labels need answers: give answers, or leave labels out")
        return self
