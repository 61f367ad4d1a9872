"""The sections on models: the base, and how experts are trained from it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from remerge import sources
from remerge.config._section import Count, Name, Rate, Section, Text
from remerge.errors import unknown

MINIATURES = {
    "causal_lm": ("qwen2", "llama"),
    "chat": (),
    "seq2seq": ("t5",),
    "clip": (),
    "image_classifier": (),
}
"""The architectures of miniature bases that a family reads, where it does not read all of them."""


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
        description="how answers are given: in words, or by one head per task (classifier, "
        "image_classifier, clip)",
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
            raise ValueError(unknown("family", family, sources.families()))
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
        0,
        description="how often the validation loss is measured, at least; 0: never. Without `patience`, the "
        "last step is kept all the same",
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
        for key in ("penalty", "penalty_inputs"):
            # A configuration that is written out has the defaults, too.
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.recipe != "tau_jp":
                raise ValueError(
                    f"{key} is of recipe tau_jp, and recipe is {self.recipe}: set that, or leave {key} out"
                )
        return self
