"""One benchmark's files, and its models and examples as the stages need them."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from remerge.checkpoints.architecture import HEADS, child
from remerge.checkpoints.models import device_of, fingerprint, held, state_of
from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.stored import (
    LINEARISED,
    is_adapter,
    is_linearised,
    metadata,
    must_be_numbers,
    read_tensors,
)
from remerge.config import Config, Variant, digest
from remerge.contents import of_model
from remerge.deltas import State, Value
from remerge.errors import Stale, UserError
from remerge.families import Example, Family, Head, family
from remerge.families.linearised import Linearised
from remerge.journal import Journal
from remerge.made import checked
from remerge.measures import curvature, references
from remerge.measures.joint import Labels
from remerge.measures.references import Reference, load_reference
from remerge.measures.score import Split
from remerge.records import Model, Score, Scores, Selection
from remerge.stages._code import code
from remerge.stages._paths import data_file, settings_of_data
from remerge.tasks import Row, pairs, read_split, shuffled
from remerge.versions import versions


class Workspace:
    """Everything a stage reads of one benchmark."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.folder
        self.device = device_of(config.device)
        self._splits: dict[tuple[str, str], Split] = {}
        self._contents: dict[str, str] = {}

    @property
    def dtype(self) -> torch.dtype:
        """What models compute in: the configured type on a GPU, float32 on a CPU."""
        on_gpu = self.device.type == "cuda"
        return getattr(torch, self.config.base.dtype) if on_gpu else torch.float32

    @cached_property
    def family(self) -> Family:
        """The family of the base and its experts, with the base's tokenizer or image processor."""
        made: Any = family(self.config.base.family, self.path("base", weights=False))
        if self.config.finetune.linear:
            theta_0 = state_of(made.load(self.path("base"), torch.float32, self.device))
            made = Linearised(made, theta_0, self.record("base").fingerprint)
        whole: Family = made
        return whole

    def record(self, model: str) -> Model:
        """What is known of a model: `base`, `multitask`, or an expert's task."""
        return Model.read(self.folder, model=model)

    def contents(self, *models: str) -> dict[str, str]:
        """A short name for all that each of some models is; every key has some, so each is read once."""
        for model in {*models} - self._contents.keys():
            self._contents[model] = self.record(model).content
        return {model: self._contents[model] for model in models}

    def path(self, model: str, weights: bool = True) -> Path:
        """Where a model's files lie, about to be read.

        Args:
            model: which.
            weights: whether its weights are read too, or only configuration, tokenizer and heads.

        Raises:
            UserError: a file is missing, or is not the one that was recorded.
            Stale: the model was trained from another base.
        """
        record, place = self.record(model), Model.place(self.folder, model=model)
        folder, again = Path(record.path), f"delete {place} and run again"
        now = of_model(folder, weights)
        known = {name: record.files[name] for name in record.files if weights or not _is_weights(name)}
        for name in sorted(now.keys() | known.keys()):
            if now.get(name) != known.get(name):
                fault = "is missing" if name not in now else f"is not the file that {place} knows"
                raise UserError(f"{folder / name} {fault}: {again}")
        base = record.follows.get("base")
        if base is not None and base != self.record("base").content:
            raise Stale(f"{place} was trained from another base than there is now: {again}")
        return folder

    def load(self, model: str, tasks: Sequence[str]) -> nn.Module:
        """A model of the benchmark, on the device, with the heads of these tasks where its family has heads.

        The base and every expert read a task through the head of that task's expert; the multitask model has
        heads of its own.
        """
        loaded = self.load_folder(self.path(model), self.dtype)
        # Of a model that speaks no head is read.
        weights = not self.config.base.speaks
        self.equip(loaded, {t: self.path(model if model == "multitask" else t, weights) for t in tasks})
        return loaded

    def load_folder(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        """A model without heads of tasks; an adapter is added to the base."""
        if self.config.finetune.linear and is_linearised(folder):
            return self._linearised(folder, dtype)
        if not is_adapter(folder):
            return self.family.load(folder, dtype, self.device)
        # Imported here: PEFT takes a second, and most benchmarks have no adapters.
        from remerge.checkpoints.adapters import add_adapter, read_adapter

        model = self.family.load(self.path("base"), dtype, self.device)
        add_adapter(model, read_adapter(folder, held(model)).values)
        return model

    def _linearised(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        """The module of a linearised model.

        Raises:
            UserError: it is an expansion at another base.
        """
        base, file = self.record("base").fingerprint, folder / LINEARISED
        if (at := metadata(file).get("base")) != base:
            raise UserError(f"{file}: an expansion at base {at}, this benchmark's is {base}: train it here")
        model, tensors = self.family.load(self.path("base"), dtype, self.device), read_tensors(file)
        must_be_numbers(folder, tensors)
        for name, theta in state_of(model).items():
            theta.copy_(tensors[name])
        return model

    def equip(self, model: nn.Module, folders: Mapping[str, Path | None]) -> None:
        """Give a model the heads of tasks, each from a checkpoint, or a fresh one."""
        asked = {task: self.config.task(task) for task in folders}
        self.family.equip(
            model, {t: Head(f, asked[t].answers, asked[t].captions) for t, f in folders.items()}
        )

    def state(self, task: str, base: Checkpoint) -> Mapping[str, Value]:
        """What an expert's merges are made of: its tensors, or what an adapter makes of the base's, float32.

        In half precision, a task vector would drown in the rounding of the weights.

        Raises:
            UserError: the base is of another architecture, or an adapter trained what has no place in it.
        """
        folder = self.path(task)
        if not is_adapter(folder):
            return self.whole(folder, base.tensors)
        from remerge.checkpoints.adapters import read_adapter

        adapter = read_adapter(folder, base)
        # Heads belong to one task alone: they are read where models are equipped with them.
        lost = [name for name in adapter.own if child(name, base.model) not in HEADS]
        if lost:
            raise UserError(f"{folder}: it trained {min(lost)}, which the base lacks: give one that has it")
        return {name: value.to(self.device) for name, value in adapter.values.items()}

    def whole(self, folder: Path, base: State) -> dict[str, Tensor]:
        """All weights of a checkpoint of the base's architecture, float32.

        Raises:
            UserError: the base, given by its tensors, is of another architecture.
        """
        state = state_of(self.load_folder(folder, torch.float32))
        for names, there, missing in (
            (state.keys() - base.keys(), "the checkpoint", "the base"),
            (base.keys() - state.keys(), "the base", "the checkpoint"),
        ):
            if names:
                raise UserError(
                    f"{folder}: tensor {min(names)} is in {there}, not in {missing}: another architecture"
                )
        for name, theta in state.items():
            if theta.shape != base[name].shape:
                raise UserError(
                    f"{folder}: {name} is {list(theta.shape)}, the base's {list(base[name].shape)}: "
                    "another architecture or vocabulary"
                )
        return state

    def journal(self, kind: Any, *parts: str) -> Journal:
        """A journal of this benchmark, of records of a type."""
        return Journal(self.journal_file(*parts), kind)

    def journal_file(self, *parts: str) -> Path:
        """Where a journal lies."""
        folder = self.folder.joinpath("journal", *parts[:-1])
        return folder / f"{parts[-1]}.jsonl"

    def rows(self, task: str, split: str) -> list[Row]:
        """The examples of a split, in the columns of its dataset."""
        file = data_file(self.folder, task, split)
        return read_split(checked(self.folder, file, settings_of_data(self.config, task)))

    def split(self, task: str, split: str) -> Split:
        """A split as the models read it, read once."""
        if (task, split) not in self._splits:
            self._splits[task, split] = self._split(task, split)
        return self._splits[task, split]

    def _split(self, task: str, split: str) -> Split:
        file = data_file(self.folder, task, split)
        settings, speaks = self.config.task(task), self.config.base.speaks
        asked = pairs(str(file), settings, self.rows(task, split), speaks)
        examples = self.family.examples(task, asked)
        labels = self.family.labels(asked[0][0], settings.answers) if settings.answers else None
        gold = [str(answer) for _, answer in asked]
        # Words and captions make the heads of images.
        judged = (gold, settings.metric, settings.answers, settings.captions)
        name = hashlib.sha256(repr((examples, *judged)).encode()).hexdigest()[:16]
        return Split(examples, gold, labels, settings.metric, name)

    def labels_of(self, tasks: Sequence[str]) -> Labels | None:
        """The answers of tasks, if an input of each can be judged among those of all; None of fewer than two.

        It can where heads are fixed and so comparable. A model that answers in words chooses among all words
        anyway.
        """
        able = self.config.base.fixed_heads and len(tasks) > 1
        return {task: self.config.task(task).answers for task in tasks} if able else None

    def reference_file(self, task: str, kind: str = "") -> Path:
        """Where the reference of a task's expert lies, on its own inputs or on a kind of stand-ins."""
        return self.folder / "references" / f"{'@'.join(filter(None, (task, kind)))}.safetensors"

    def reference_inputs(self, task: str, kind: str = "") -> list[Example]:
        """The validation inputs on which the answers of a task's expert are kept.

        Those that stand in for them are ``shuffled``, its own with their words in another order, or of the
        task that follows it, ``other``, asked as that one is.
        """
        if not kind:
            return self.split(task, "validation").examples[: self.config.learning.references]
        source = self.config.next_task(task) if kind == "other" else task
        asked, file = self.config.task(source), data_file(self.folder, source, "validation")
        rows = self.rows(source, "validation")[: self.config.learning.references]
        if kind == "shuffled":
            rows = [shuffled(row, asked, f"{self.config.seed}/{task}/{k}") for k, row in enumerate(rows)]
        return self.family.examples(task, pairs(str(file), asked, rows, self.config.base.speaks))

    def reference(self, task: str, kind: str = "") -> Reference:
        """The reference of a task's expert."""
        inputs = self.reference_inputs(task, kind)
        follows = self.reference_follows(task, inputs)
        return load_reference(checked(self.folder, self.reference_file(task, kind), follows), inputs)

    def reference_follows(self, task: str, inputs: Sequence[Example]) -> dict[str, str]:
        """What the reference of a task's expert on some inputs is made from."""
        return self._follows(task, inputs, Path(references.__file__))

    def _follows(self, task: str, inputs: Sequence[Example], measure: Path, *settings: Any) -> dict[str, str]:
        """What a file that says how a task's expert answers is made from, each part by a digest.

        Args:
            task: whose expert.
            inputs: which it is asked.
            measure: the file of what is measured.
            settings: of it.
        """
        return {
            "weights": digest(self.contents("base", task)),
            "inputs": digest(repr(inputs)),
            "code": code(self.config, measure),
            "settings": digest(*settings),
        }

    def params(self, variant: Variant, plan: str) -> dict[str, Any]:
        """A variant's parameters, those that are tuned as they were chosen for a plan."""
        given = self.config.params(variant)
        if not self.config.is_tuned(variant):
            return given
        return {**given, **self.selection(variant, plan).chosen}

    def selection(self, variant: Variant, plan: str) -> Selection:
        """What was chosen of a variant's tuned parameters for a plan."""
        name = self.config.benchmark
        return Selection.read(self.folder, plan=plan, variant=variant.name, benchmark=name)

    def statistics_file(self, task: str, kind: str) -> Path:
        """Where a kind of statistics of a task's expert lies."""
        return self.folder / "statistics" / task / f"{kind}.safetensors"

    def statistics_inputs(self, task: str) -> list[Example]:
        """The training inputs that statistics of a task's expert are of."""
        return self.split(task, "train").examples[: self.config.statistics.inputs]

    def statistics_follow(self, task: str) -> dict[str, str]:
        """What statistics of a task's expert are made from."""
        inputs = self.statistics_inputs(task)
        return self._follows(task, inputs, Path(curvature.__file__), self.config.seed)

    def statistics(self, task: str, kind: str) -> dict[str, Tensor]:
        """Statistics of a task's expert.

        Raises:
            UserError: the file is missing or cut short.
        """
        path = checked(self.folder, self.statistics_file(task, kind), self.statistics_follow(task))
        try:
            found = {name: tensor.to(self.device) for name, tensor in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not whole ({error}): delete it and run again") from None
        for name, tensor in found.items():
            if not tensor.isfinite().all():
                raise UserError(f"{path}: {name} is not finite: delete it and run again")
        return found

    def expert_score(self, task: str) -> Score:
        """P_t(theta_t): an expert on its own task's test split.

        Raises:
            UserError: it is zero, so nothing can be normalised by it.
        """
        path = Scores.place(self.folder, model=task)
        scores = Scores.read(self.folder, model=task, benchmark=self.config.benchmark).scores
        if task not in scores:
            raise UserError(f"{path} has no score on {task}: delete it and run again")
        score = scores[task]
        if score.value <= 0:
            raise UserError(f"{path}: the expert of {task} scores 0 on its own task: train it further")
        return score


def _is_weights(name: str) -> bool:
    return "/" not in name and name.endswith(".safetensors")


def model_record(
    space: Workspace,
    name: str,
    model: nn.Module,
    source: str,
    folder: Path,
    started: float,
    training: dict[str, Any] | None,
    follows: Mapping[str, str],
) -> Model:
    """What is kept of a model: where it lies, what it is, how long it took, and how it was trained here."""
    known: dict[str, Any] = {} if training is None else {"training": training}
    if is_linearised(folder):
        known["linearised_at"] = space.record("base").fingerprint
    return Model(
        model=name,
        source=source,
        path=str(folder),
        fingerprint=fingerprint(folder),
        files=of_model(folder),
        follows=dict(follows),
        versions=versions(),
        family=space.config.base.family,
        architecture=type(model).__name__,
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=time.perf_counter() - started,
        device=str(space.device),
        **known,
    )
