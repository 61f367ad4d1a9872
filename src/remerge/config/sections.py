"""The sections of a configuration: its keys and their defaults."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from remerge import sources
from remerge.errors import unknown
from remerge.templates import columns
from remerge.variants import TUNE, digest, is_tuned, name_of

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=80)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0, le=10**9)]
"""A number of steps, examples or units, at least 1."""

Rate = Annotated[float, Field(gt=0, le=10)]
"""A learning rate."""

MOST_POINTS = 10_000
"""The largest grid of a variant that may be tuned on validation scores."""

MINIATURES = {"causal_lm": ("qwen2", "llama"), "seq2seq": ("t5",), "clip": ()}
"""The architectures of miniature bases that a family reads, where it does not read all of them."""

Metric = Literal["accuracy", "rouge1", "rouge2", "rougeL"]


class Section(BaseModel):
    """A part of the configuration, immutable; unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a switch for a number: True would pass for 1."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError(f"{value} is a switch: give a value")
        return value


class Miniature(Section):
    """Size and pretraining of the miniature base, used only if `base.source` is `miniature`."""

    architecture: Literal["qwen2", "llama", "t5", "deberta"] = "qwen2"
    hidden: Count = 128
    layers: Count = 3
    heads: Count = 4
    intermediate: Count = 256
    steps: Count = 2400
    batch_size: Count = 64
    learning_rate: Rate = 3e-3
    threads: Count = Field(2, description="CPU threads for the pretraining")


class Base(Section):
    """The pretrained model that every expert starts from."""

    family: Name = Field(
        "causal_lm",
        description="how answers are given: in words, or by one head per task (classifier, clip)",
    )
    source: Text = Field(description="a hub id, a local folder, or `miniature`, trained here")
    revision: Text | None = Field(None, description="commit or tag on the hub")
    dtype: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="precision of computations on a GPU: tf32 is float32 whose factors are rounded to ten "
        "bits in products; a CPU computes in float32",
    )
    vocabulary: Literal["same", "common"] = Field(
        "same",
        description="experts with added tokens, or with more or fewer rows of embeddings than the base: "
        "refuse them, or merge the rows of the base's words alone",
    )
    miniature: Miniature = Miniature()

    @property
    def speaks(self) -> bool:
        """Whether answers are words; otherwise they are the classes of a head."""
        return sources.families()[self.family].speaks

    @property
    def reads(self) -> str:
        """The kind of its inputs: text or images."""
        return sources.families()[self.family].reads

    @property
    def fixed_heads(self) -> bool:
        """Whether heads are fixed, so that labels of several tasks can be compared and models linearised."""
        return sources.families()[self.family].fixed_heads

    @field_validator("family")
    @classmethod
    def _known(cls, family: str) -> str:
        if family not in sources.families():
            raise ValueError(unknown("family", family, list(sources.families())))
        return family

    @model_validator(mode="after")
    def _can_be_made(self) -> "Base":
        made = self.miniature
        if self.source != "miniature":
            return self
        if made.architecture not in (read := MINIATURES.get(self.family, (made.architecture,))):
            given = " or ".join(read) or "another source than miniature"
            raise ValueError(
                f"miniature.architecture: {self.family} does not read a {made.architecture}: give {given}"
            )
        if made.hidden % (2 * made.heads):
            raise ValueError(
                f"miniature.hidden: {made.hidden} is no even multiple of {made.heads} heads: change one"
            )
        return self


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
    labels: list[int | str] | None = Field(
        None, description="the values of `target`, in the order of the answers; default: 0, 1, …"
    )
    target: Text = Field(
        "label",
        description="the column of the label or the answer, or a text with fields like `prompt`",
    )
    captions: list[str] = Field(
        [], description="captions of an image, with {answer}: their embedding is the head of a class"
    )
    metric: Metric = Field("accuracy", description="accuracy (of the whole answer), or a ROUGE F-measure")
    expert: Text | None = Field(
        None, description="an existing expert: a hub id or local folder; by default, one is fine-tuned here"
    )
    expert_revision: Text | None = Field(None, description="the expert's commit or tag on the hub")
    missing: Literal["refuse", "drop"] = Field(
        "refuse", description="examples that lack a text, an image or a label: refuse them or leave them out"
    )

    @property
    def templates(self) -> list[str]:
        """The texts with fields."""
        return [*filter(None, [self.prompt]), *self.answers, *([self.target] if "{" in self.target else [])]

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
        if self.labels and not self.answers:
            raise ValueError("labels need answers: give answers, or leave labels out")
        return self


class Lora(Section):
    """Experts as LoRA adapters: the base is fixed, and low-rank matrices beside linear layers are trained."""

    rank: Count = 16
    alpha: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: list[Text] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj"],
        min_length=1,
        description="the linear layers, by the endings of their names",
    )


class Finetune(Section):
    """Supervised fine-tuning of the base on one task (AdamW, loss on the answer only)."""

    learning_rate: Rate = 1e-4
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    batch_size: Count = Field(32, description="examples per step, including gradient accumulation")
    device_batch_size: Count | None = Field(
        None, description="examples on the device at once, a divisor of `batch_size`; default: `batch_size`"
    )
    steps: Count = 1000
    multitask_steps: Count | None = Field(
        None, description="steps on the union of the tasks; default: `steps` times the number of tasks"
    )
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.06, description="share of the steps used for warmup"
    )
    evaluations: Annotated[int, Field(ge=0, le=10**9)] = Field(
        0, description="how often the validation loss is measured; 0: never, and the last step is kept"
    )
    patience: Count | None = Field(
        None, description="stop after this many evaluations without progress, and keep the best step"
    )
    lora: Lora | None = Field(None, description="train adapters; by default, all weights are trained")
    recipe: Literal["standard", "linearised", "tau_jp"] = Field(
        "standard",
        description="linearised: the model is its first-order expansion around the base, in training, "
        "merging and scoring; tau_jp: the same, with a penalty on changes to its outputs on the other tasks' "
        "training inputs",
    )
    penalty: Annotated[float, Field(ge=0, le=1e6)] = Field(0.1, description="weight of the penalty of tau_jp")
    penalty_inputs: Count = Field(16, description="for tau_jp: inputs of each other task per step")
    multitask: bool = Field(
        True, description="also fine-tune the base on the union of the tasks, as the upper reference"
    )

    @property
    def at_once(self) -> int:
        """The number of examples on the device at once."""
        return min(self.device_batch_size or self.batch_size, self.batch_size)

    @property
    def linear(self) -> bool:
        """Whether experts and merges are linearised models."""
        return self.recipe != "standard"

    @model_validator(mode="after")
    def _whole(self) -> "Finetune":
        if self.patience and not self.evaluations:
            raise ValueError("patience needs evaluations above 0: set evaluations")
        if self.batch_size % self.at_once:
            raise ValueError(
                f"device_batch_size: {self.batch_size} examples per step are no multiple of "
                f"{self.device_batch_size}: change one"
            )
        if self.linear and self.lora is not None:
            raise ValueError(f"recipe {self.recipe}: an adapter cannot be linearised: leave lora out")
        return self


class Variant(Section):
    """A merge method with the parameters that differ from its defaults."""

    name: str
    method: Name
    params: dict[str, JsonValue] = Field(
        {},
        description=f"parameters; to choose one from a list on validation scores: {{{TUNE}: [0.1, 0.2]}}",
    )
    seeds: Count = Field(1, description="how often each merge is made, for a random or learned method")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {given: {}}
        if isinstance(given, dict) and len(given) == 1 and "name" not in given:
            ((method, params),) = given.items()
            params = dict(params or {}) if isinstance(params, dict | None) else params
            seeds = params.pop("seeds", 1) if isinstance(params, dict) else 1
            given = {"method": method, "params": params, "seeds": seeds}
        if not (isinstance(given, dict) and "method" in given and isinstance(given.get("params", {}), dict)):
            raise ValueError("write a method, or one with its parameters: {ties: {density: 0.1}}")
        seeds = {"seeds": given["seeds"]} if given.get("seeds", 1) != 1 else {}
        name = name_of(str(given["method"]), given.get("params", {}) | seeds)
        written = given.setdefault("name", name)
        # Of variants that differ only in their tuned lists, a resolved configuration has a digest too.
        if written != name and not str(written).startswith(f"{name}="):
            raise ValueError(f"name: method and parameters make it {name}, not {written!r}: leave it out")
        return given


class Merge(Section):
    """How merges are made, for every variant in every plan."""

    variants: list[Variant] = Field(min_length=1)
    defaults: dict[Name, dict[str, JsonValue]] = Field(
        {}, description="by method: parameters of all its variants that do not override them"
    )
    delta_dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="type of the task vectors over which coefficients are learned; by default, experts in "
        "half precision stay so, and what a method prepares of them is bfloat16; all else is float32",
    )

    @field_validator("variants")
    @classmethod
    def _distinct(cls, variants: list[Variant]) -> list[Variant]:
        """Distinct names: if variants differ only in their tuned lists, the later ones get a digest."""
        found: dict[str, Variant] = {}
        for variant in variants:
            name = variant.name
            if name in found and any(map(is_tuned, variant.params.values())):
                name = f"{name}={digest(variant.params)[:8]}"
            if name in found:
                raise ValueError(f"variant {name} is listed twice: leave one out")
            found[name] = variant.model_copy(update={"name": name})
        return list(found.values())

    @model_validator(mode="after")
    def _tuned(self) -> "Merge":
        given = {f"defaults.{method}": params for method, params in self.defaults.items()}
        given |= {v.name: {**self.defaults.get(v.method, {}), **v.params} for v in self.variants}
        for name, params in given.items():
            points = 1
            for key, value in params.items():
                if not isinstance(value, dict) or not is_tuned(value):
                    continue
                values = value[TUNE]
                if not isinstance(values, list) or not values:
                    raise ValueError(f"{name}: {key}: {TUNE} takes a list of values: write [0.1, 0.2]")
                points *= len(values)
                if points > MOST_POINTS:
                    raise ValueError(f"{name}: {points:,} settings to choose from: tune fewer")
                twice = next((value for k, value in enumerate(values) if value in values[:k]), None)
                if twice is not None:
                    raise ValueError(f"{name}: {key}: {twice} is given twice: leave one out")
        return self


class Tune(Section):
    """How the values of tuned parameters are chosen."""

    search: Literal["grid", "tpe"] = Field(
        "grid",
        description="grid: try every combination; tpe: for a grid with more points than `trials`, propose "
        "each trial from the results of those before; the values of a list must be in order",
    )
    trials: Count = Field(60, description="number of trials of tpe per plan, including repeated ones")


class Learning(Section):
    """How coefficients are learned (DivMerge, Table 9), in addition to the learned methods' parameters."""

    references: Count = Field(
        500, description="validation inputs per task on which the expert's answers are stored"
    )
    batch_size: Count = Field(1, description="inputs of each task per step")


class Statistics(Section):
    """Settings of the statistics of each expert that fisher and regmean need."""

    inputs: Count = Field(256, description="training inputs of the expert's task, without labels")


class Evaluation(Section):
    """How models are scored."""

    batch_size: Count = 64
    watch: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="for learned methods: also score merges of two experts at this many points of the "
        "training, including start and end",
    )
