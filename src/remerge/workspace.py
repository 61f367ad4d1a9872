"""One benchmark's files, and its models and examples as the stages need them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from remerge.config import Config
from remerge.errors import UserError
from remerge.families import Example, Family, family
from remerge.files import read_json
from remerge.journal import Journal
from remerge.models import device_of
from remerge.references import Reference, load_reference
from remerge.tasks.data import Row, data_file, read_split, texts


@dataclass(frozen=True)
class Split:
    """One split of one task: its examples as tokens, and the first token of each label."""

    examples: list[Example]
    labels: list[int] | None
    digest: str


class Workspace:
    """Everything a stage reads of one benchmark."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.folder
        self.device = device_of(config.device)

    @property
    def dtype(self) -> torch.dtype:
        """What models compute in: the configured type on a GPU, float32 on a CPU."""
        on_gpu = self.device.type == "cuda"
        return getattr(torch, self.config.base.dtype) if on_gpu else torch.float32

    @cached_property
    def family(self) -> Family:
        """The family of the base and its experts."""
        return family(self.config.base.family)

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer, which every expert shares."""
        return self.family.tokenizer(Path(self.record("base")["path"]))

    def record(self, model: str) -> Any:
        """What is known of a model: `base`, `multitask`, or an expert's task."""
        return read_json(self.folder / ("base.json" if model == "base" else f"experts/{model}.json"))

    def load(self, model: str) -> nn.Module:
        """A model of the benchmark, on the device."""
        return self.family.load(Path(self.record(model)["path"]), self.dtype, self.device)

    def journal(self, *parts: str) -> Journal:
        """A journal of this benchmark."""
        return Journal(self.folder.joinpath("journal", *parts).with_suffix(".jsonl"))

    def split(self, task: str, split: str) -> Split:
        """A split as tokens."""
        file = data_file(self.folder, task, split)
        rows: list[Row] = read_split(file)
        settings = self.config.task(task)
        pairs = texts(str(file), settings, rows)
        examples = self.family.examples(self.tokenizer, pairs)
        labels = self.family.labels(self.tokenizer, pairs[0][0], settings.answers)
        return Split(examples, labels, hashlib.sha256(repr(examples).encode()).hexdigest()[:16])

    def reference_file(self, task: str) -> Path:
        """Where the reference of a task's expert lies."""
        return self.folder / "references" / f"{task}.safetensors"

    def reference(self, task: str) -> Reference:
        """The reference of a task's expert."""
        return load_reference(self.reference_file(task), self.split(task, "validation").examples)

    def statistics_file(self, task: str, kind: str) -> Path:
        """Where a kind of statistics of a task's expert lies."""
        return self.folder / "statistics" / task / f"{kind}.safetensors"

    def statistics(self, task: str, kind: str) -> dict[str, Tensor]:
        """Statistics of a task's expert.

        Raises:
            UserError: the file is missing or cut short.
        """
        path = self.statistics_file(task, kind)
        try:
            return {name: tensor.to(self.device) for name, tensor in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not whole ({error}): delete it and run again") from None

    def expert_score(self, task: str) -> dict[str, Any]:
        """P_t(theta_t): an expert on its own task's test split.

        Raises:
            UserError: it is zero, so nothing can be normalised by it.
        """
        path = self.folder / "scores" / f"{task}.json"
        score: dict[str, Any] = read_json(path)["scores"][task]
        if score["value"] <= 0:
            raise UserError(f"{path}: the expert of {task} scores 0 on its own task: train it further")
        return score
