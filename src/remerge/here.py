"""A benchmark as it would be on this machine, before any of it exists: every model is the base."""

import time
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from remerge.amounts import OPTION
from remerge.checkpoints.models import locate
from remerge.config import SPLITS, Config
from remerge.errors import UserError
from remerge.estimate import TOKENS
from remerge.families import Example, family
from remerge.headers import weights
from remerge.measures.score import Split
from remerge.records import Model
from remerge.splits import make_splits
from remerge.stages._models import model_record
from remerge.stages._workspace import Workspace
from remerge.tasks import Row
from remerge.units import ANSWER, Extent


def base_of(config: Config, empty: Path) -> Path:
    """The folder of the base; if a run would pretrain it, it is pretrained for one step in an empty folder.

    Raises:
        UserError: the base is on the hub and was not downloaded.
    """
    source, revision = config.base.source, config.base.revision
    if source == "miniature":
        pretrain_base(config, empty, 1)
        return empty
    if not Path(source).is_dir() and not weights(source, revision):
        raise UserError(f"base.source: {source} is not on this machine: run hf download {source}")
    return locate(source, revision)


def pretrain_base(config: Config, folder: Path, steps: int) -> None:
    """Pretrain a miniature base for some steps."""
    # Imported here: few bases are pretrained.
    from remerge.miniature.pretrain import pretrain

    pretrain(folder, **{**config.base.miniature.model_dump(), "steps": steps})
    torch.set_num_threads(config.threads)


class Here(Workspace):
    """A workspace that makes nothing, and in which every model is the base.

    Args:
        config: the benchmark's configuration.
        folder: the base's folder.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        super().__init__(config)
        started, source = time.perf_counter(), config.base.source
        model = family(config.base.family, folder).load(folder, self.dtype, self.device)
        self.base = model_record(self, "base", model, source, folder, started, None, {})
        self.reading: dict[str, float] = {}
        self._rows: dict[str, Mapping[Any, list[Row]]] = {}

    def record(self, model: str) -> Model:
        """The base's record, for any model."""
        return self.base

    def fresh(self, dtype: torch.dtype) -> nn.Module:
        """The base with untrained heads."""
        model = self.load_folder(self.path("base"), dtype)
        self.equip(model, dict.fromkeys(self.config.tasks))
        return model

    def rows(self, task: str, split: str) -> list[Row]:
        """The examples of a split, as the run made them or would make them from local data, or none."""
        if task not in self._rows:
            settings, found = self.config.task(task), dict[Any, list[Row]]()
            with suppress(UserError):
                found = {each: super(Here, self).rows(task, each) for each in SPLITS}
            if not found and (settings.source == "miniature" or Path(settings.source).is_dir()):
                found = make_splits(task, settings, self.config.seed).rows
            self._rows[task] = found
        return self._rows[task].get(split, [])

    def _split(self, task: str, split: str) -> Split:
        if not self.rows(task, split):
            return self._assumed(task, split)
        started = time.perf_counter()
        made = super()._split(task, split)
        self.reading[task] = (time.perf_counter() - started) / len(made.examples)
        return made

    def _assumed(self, task: str, split: str) -> Split:
        """The largest possible number of inputs, all the same."""
        asked, picture = self.config.task(task), BytesIO()
        Image.effect_noise((224, 224), 64).save(picture, "png")
        prompt = picture.getvalue() if asked.image else [2] * self._tokens
        answer = [2] * (OPTION if asked.chooses else ANSWER) if self.config.base.speaks else [0]
        example = Example(prompt, answer, task)
        n = getattr(asked.sizes, split)
        return Split([example] * n, [""] * n, None, asked.metric, asked.answer_tokens, "")

    @property
    def _tokens(self) -> int:
        """The number of tokens that an unknown input is assumed to have."""
        return min(TOKENS, int(self.family.processor.model_max_length))

    @property
    def extents(self) -> dict[str, Extent]:
        """The size of each task."""
        found = {}
        for task in self.config.tasks:
            train, validation, test = (self.split(task, split).examples for split in SPLITS)
            options = self.split(task, "test").judged
            longest = max(len(e.answer) for e in [*validation, *test, *options])
            asked = max(longest, self.config.task(task).answer_tokens or 0)
            found[task] = Extent(len(train), len(validation), len(test), asked)
        return found

    @property
    def remark(self) -> str:
        """A line on what was measured, and which inputs were available."""
        lacking = [task for task in self.config.tasks if not self.rows(task, "test")]
        if not lacking:
            return "time on this machine, measured with the base on the tasks' inputs:"
        size = "" if self.config.base.reads == "image" else f" of {self._tokens} tokens"
        return (
            f"time on this machine, measured with the base; inputs{size} stand in for those of "
            f"{', '.join(lacking)}, which are not on this machine:"
        )
