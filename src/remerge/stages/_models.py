"""The models of one benchmark, as its stages need them."""

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from remerge import devices
from remerge.checkpoints.architecture import AS_DATA, HEADS, child, on_meta
from remerge.checkpoints.models import device_of, fingerprint, held, state_of
from remerge.checkpoints.reading import Checkpoint, read_checkpoint
from remerge.checkpoints.stored import (
    LINEARISED,
    is_adapter,
    is_linearised,
    metadata,
    must_be_numbers,
    read_tensors,
    stored_dtype,
)
from remerge.config import Config
from remerge.contents import of_model
from remerge.deltas import State, Value
from remerge.errors import Stale, UserError
from remerge.families import Family, Head, family
from remerge.families.linearised import Linearised
from remerge.measures.words import Parts, WordHead, word_head
from remerge.records import Model
from remerge.training import existing
from remerge.versions import versions

TRAINED = "fine-tuned here"
"""The source of a model that has none."""


class Models:
    """Base, multitask model and experts: checked when they are read, loaded, and equipped with heads."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = config.folder
        self._contents: dict[str, str] = {}

    @cached_property
    def device(self) -> torch.device:
        """The device on which models compute; a job that runs none needs none.

        Raises:
            UserError: this machine does not have it, or PyTorch cannot use a GPU that it has, and results
                would be in another precision than the run's others.
        """
        device, asked = device_of(self.config.device), self.config.base.dtype
        falls_back = self.config.device == "auto" and device.type == "cpu" and asked != "float32"
        if falls_back and (gpus := devices.visible()):
            raise UserError(
                f"base.dtype {asked}: PyTorch cannot use {', '.join(gpus)}, and a CPU computes in float32: "
                "mend the driver or PyTorch, or set device to cpu"
            )
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of models in memory during computations."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def precision(self) -> str:
        """The dtype in which models compute: as configured on a GPU, float32 on a CPU."""
        return self.config.base.dtype if self.device.type == "cuda" else "float32"

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
        """The record of a model: `base`, `multitask`, or an expert's task."""
        return Model.read(self.folder, model=model)

    def contents(self, *models: str) -> dict[str, str]:
        """A digest of the contents of some models; many keys need it, so each model is read once."""
        for model in {*models} - self._contents.keys():
            self._contents[model] = self.record(model).content
        return {model: self._contents[model] for model in models}

    def path(self, model: str, weights: bool = True) -> Path:
        """The folder of a model's files, which are about to be read.

        Args:
            model: the model.
            weights: whether its weights are read too, or only configuration, tokenizer and heads.

        Raises:
            UserError: a file is missing, or is not the recorded one.
            Stale: the configuration names another model by now, or it was trained from another base.
        """
        record, place = self.record(model), Model.place(self.folder, model=model)
        folder, again = Path(record.path), f"delete {place} and run again"
        asked = self.config.base.source if model == "base" else existing(self.config, model) or TRAINED
        if Path(asked).resolve() != Path(record.source).resolve():
            raise Stale(
                f"{place} is of another model ({record.source}) than the configuration's ({asked}): {again}"
            )
        now = of_model(folder, weights)
        known = {name: record.files[name] for name in record.files if weights or not _is_weights(name)}
        for name in sorted(now.keys() | known.keys()):
            if now.get(name) != known.get(name):
                fault = "is missing" if name not in now else f"is not the file that {place} records"
                raise UserError(f"{folder / name} {fault}: {again}")
        base = record.follows.get("base")
        if base is not None and base != self.record("base").content:
            raise Stale(f"{place} was trained from another base than today's: {again}")
        return folder

    def load(self, model: str, tasks: Sequence[str]) -> nn.Module:
        """A model of the benchmark, on the device, with the heads of these tasks where its family has heads.

        The base and every expert read a task through the head of that task's expert; the multitask model has
        heads of its own.
        """
        loaded = self.load_folder(self.path(model), self.dtype)
        # A model that answers in words has no head to read.
        weights = not self.config.base.speaks
        self.equip(loaded, {t: self.path(model if model == "multitask" else t, weights) for t in tasks})
        return loaded

    def load_folder(self, folder: Path, dtype: torch.dtype, device: torch.device | None = None) -> nn.Module:
        """A model without heads of tasks; an adapter is added to the base.

        Args:
            folder: its folder.
            dtype: the dtype of its weights.
            device: where it is loaded; on the benchmark's device if not given.
        """
        device = device or self.device
        if self.config.finetune.linear and is_linearised(folder):
            return self._linearised(folder, dtype, device)
        if not is_adapter(folder):
            return self.family.load(folder, dtype, device)
        # Imported here: PEFT takes a second, and most benchmarks have no adapters.
        from remerge.checkpoints.adapters import add_adapter, read_adapter

        model = self.family.load(self.path("base"), dtype, device)
        add_adapter(model, read_adapter(folder, held(model)).values)
        return model

    def _linearised(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """The module of a linearised model.

        Raises:
            UserError: it is an expansion at another base.
        """
        base, file = self.record("base").fingerprint, folder / LINEARISED
        if (at := metadata(file).get("base")) != base:
            raise UserError(f"{file}: linearised at base {at}, this benchmark's is {base}: train it here")
        model, tensors = self.family.load(self.path("base"), dtype, device), read_tensors(file)
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

    def state(self, task: str, base: Checkpoint, device: torch.device | None = None) -> Mapping[str, Value]:
        """The tensors of an expert that are merged: its own, or an adapter's changes to the base's.

        Args:
            task: the expert's task.
            base: the base.
            device: where a whole model is loaded, as in `load_folder`.

        Raises:
            UserError: the base has another architecture, or an adapter trained a tensor that it lacks.
        """
        folder = self.path(task)
        if not is_adapter(folder):
            return self.whole(folder, base.tensors, device)
        from remerge.checkpoints.adapters import read_adapter

        adapter = read_adapter(folder, base)
        # A head belongs to a single task: it is read when a model is equipped with it.
        lost = [name for name in adapter.own if child(name, base.model) not in HEADS]
        if lost:
            raise UserError(
                f"{folder}: it trained {min(lost)}, which the base lacks: give a base that has it"
            )
        return {name: value.to(self.device) for name, value in adapter.values.items()}

    def head(self, task: str) -> WordHead | None:
        """The output head of an expert, mapped from its files; None of models that do not answer in words."""
        if not self.config.base.speaks:
            return None
        folder, changed = self.path(task), dict[str, Value]()
        held_in = self.path("base") if is_adapter(folder) else folder
        made = getattr(transformers, self.record("base").architecture)
        config = transformers.AutoConfig.from_pretrained(held_in, **AS_DATA)
        whole = read_checkpoint(held_in, on_meta(made, config))
        if is_adapter(folder):
            from remerge.checkpoints.adapters import read_adapter

            changed = read_adapter(folder, whole).values

        def parts(name: str) -> Parts:
            value = changed.get(name)
            return (value, None) if isinstance(value, Tensor) else (whole.tensors[name], value)

        return word_head(whole.head, parts)

    def adapts(self, task: str) -> bool:
        """Whether an expert is an adapter."""
        return is_adapter(Path(self.record(task).path))

    def stored(self, folder: Path) -> torch.dtype:
        """The dtype of a whole model's weights in memory: the stored one, widened to hold the base's too."""
        base = Path(self.record("base").path)
        return torch.promote_types(stored_dtype(folder), stored_dtype(base))

    def whole(self, folder: Path, base: State, device: torch.device | None = None) -> dict[str, Tensor]:
        """All weights of a checkpoint of the base's architecture, in the dtype `stored`.

        Args:
            folder: its folder.
            base: the base's tensors.
            device: where it is loaded, as in `load_folder`.

        Raises:
            UserError: the base, given by its tensors, has another architecture.
        """
        dtype = self.stored(folder)
        loaded = state_of(self.load_folder(folder, dtype, device))
        # Of models in float16, transformers holds some layers in float32, such as T5's.
        state = {name: theta.to(dtype) for name, theta in loaded.items()}
        for names, there, missing in (
            (state.keys() - base.keys(), "the checkpoint", "the base"),
            (base.keys() - state.keys(), "the base", "the checkpoint"),
        ):
            if names:
                raise UserError(
                    f"{folder}: tensor {min(names)} is in {there}, not in {missing}: "
                    "give an expert of this base"
                )
        for name, theta in state.items():
            if theta.shape != base[name].shape:
                raise UserError(
                    f"{folder}: {name} is {list(theta.shape)}, the base's {list(base[name].shape)}: "
                    "give an expert of this base, with its vocabulary"
                )
        return state


def _is_weights(name: str) -> bool:
    return "/" not in name and name.endswith(".safetensors")


def model_record(
    space: Models,
    name: str,
    model: nn.Module,
    source: str,
    folder: Path,
    started: float,
    training: dict[str, Any] | None,
    follows: Mapping[str, str],
) -> Model:
    """The record of a model: its folder and contents, how long it took, and how it was trained here."""
    known: dict[str, Any] = {"inode": folder.stat().st_ino} if training is None else {"training": training}
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
