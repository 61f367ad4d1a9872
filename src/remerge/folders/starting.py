"""A first configuration, written by looking at a base and its experts."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from remerge.checkpoints.architecture import HEADS, child
from remerge.checkpoints.models import head_tensors, head_width, locate
from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.stored import is_adapter
from remerge.errors import UserError
from remerge.families import Family, family
from remerge.files import read_settings, write_text
from remerge.folders.experts import NAME, Expert, name_in, read_base, read_expert
from remerge.sources import families

ARCHITECTURES: dict[str, Mapping[str, Any]] = {
    "classifier": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "seq2seq": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "causal_lm": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "image_classifier": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}
"""The architectures that each family reads, from transformers' own lists."""

TASK_TYPES = {"SEQ_CLS": "classifier", "SEQ_2_SEQ_LM": "seq2seq", "CAUSAL_LM": "causal_lm"}
"""The families of adapters, by the task type that PEFT stores."""


@dataclass(frozen=True)
class Seen:
    """An expert as it was found.

    Attributes:
        source: its folder as written in the configuration, or its hub id.
        adapter: whether it is an adapter of the base.
        labels: the names of its head's classes, if it has a head and its configuration names them.
        classes: the number of its head's classes; 0 without a head.
        added: the number of tokens that it has and the base lacks.
    """

    source: str
    adapter: bool
    labels: Sequence[str]
    classes: int
    added: int


def write_configuration(out: Path, base: str, experts: Sequence[str]) -> None:
    """Write a configuration that merges some checkpoints; their owner fills in what nobody else can know.

    Args:
        out: a YAML file that does not exist yet; its name becomes the benchmark's.
        base: a folder of safetensors, or a hub id.
        experts: the same for each expert, ``name=folder`` or the folder alone; LoRA adapters too.

    Raises:
        UserError: the file exists, or a checkpoint cannot be read or has another base.
    """
    if out.exists():
        raise UserError(f"{out} exists: give another name, or remove it")
    name = out.stem
    if out.suffix not in (".yaml", ".yml") or not NAME.fullmatch(name):
        raise UserError(f"{out}: its name becomes the benchmark's: use letters, digits, _ and -, and .yaml")
    sources = _named(experts)
    whole = read_base(base)
    if whole.model is None:
        raise UserError(f"{base}: transformers does not know its architecture: use `remerge merge` instead")
    folders = {expert: locate(source) for expert, source in sources.items()}
    read = {expert: read_expert(expert, place, whole) for expert, place in folders.items()}
    kind = _family(whole, folders)
    reader = family(kind, whole.folder)
    seen = {}
    for expert, source in sources.items():
        added = len(reader.added(folders[expert]))
        _must_fit(expert, read[expert], whole, reader, bool(added))
        labels, classes = _head(expert, folders[expert], kind)
        seen[expert] = Seen(_written(source, out), is_adapter(folders[expert]), labels, classes, added)
    values = {
        "benchmark": name,
        "family": kind,
        "reads": reader.reads,
        "speaks": reader.speaks,
        "fixed_heads": families()[kind].fixed_heads,
        "chats": kind == "causal_lm" and reader.processor.chat_template is not None,
        "base": _written(base, out),
        "dtype": _dtype(whole),
        "experts": seen,
        "adapters": all(expert.adapter for expert in seen.values()),
        "common": any(expert.added for expert in seen.values()),
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)
    write_text(out, environment.get_template("starting.yaml").render(values))


def _named(experts: Sequence[str]) -> dict[str, str]:
    """The experts' folders under the names of their tasks."""
    named: dict[str, str] = {}
    for written in experts:
        name, source = name_in(written)
        name = name or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(source).name).strip("-")
        if not NAME.fullmatch(name):
            raise UserError(
                f"--expert {written}: a task's name has only letters, digits, _ and -: write name=folder"
            )
        if name in named or name in ("base", "multitask"):
            why = "is already in use" if name in named else "is the name of a reference model"
            raise UserError(f"--expert {written}: {name} {why}: give another, as name=folder")
        named[name] = source
    if len(named) < 2:
        raise UserError("a benchmark merges two experts or more: give --expert again")
    return named


def _family(base: Checkpoint, folders: Mapping[str, Path]) -> str:
    """The family of the experts.

    Raises:
        UserError: they belong to several families, or to none.
    """
    whole: Any = base.model
    if whole.config.model_type.startswith("clip"):
        return "clip"
    own, sees = _kind(type(whole).__name__), whole.main_input_name == "pixel_values"
    kinds = {expert: _trained_for(folder, sees) or own for expert, folder in folders.items()}
    for expert, kind in kinds.items():
        if kind is None:
            made = type(base.model).__name__
            raise UserError(
                f"{folders[expert]}: neither it nor the base ({made}) has a head that gives answers: give a "
                "model with a language-modelling or sequence-classification head"
            )
    first, *others = kinds
    for expert in others:
        if kinds[expert] != kinds[first]:
            raise UserError(
                f"{first} is a {kinds[first]}, {expert} a {kinds[expert]}: give experts of one family"
            )
    return str(kinds[first])


def _trained_for(folder: Path, sees: bool) -> str | None:
    """The family that a checkpoint itself names, of a base that reads text or sees images."""
    if is_adapter(folder):
        given = read_settings(folder / "adapter_config.json")
        headed = {*(given.get("modules_to_save") or ())} & {*HEADS}
        own_head = "image_classifier" if sees else "classifier"
        return TASK_TYPES.get(str(given.get("task_type"))) or (own_head if headed else None)
    names = read_settings(folder / "config.json").get("architectures") or [""]
    return _kind(str(names[0]))


def _kind(architecture: str) -> str | None:
    """The family that reads a class of transformers."""
    for kind, known in ARCHITECTURES.items():
        names = [name for value in known.values() for name in ([value] if isinstance(value, str) else value)]
        if architecture in names:
            return kind
    return None


def _must_fit(expert: str, read: Expert, base: Checkpoint, reader: Family, added: bool) -> None:
    """Refuse a model that lacks a tensor of the base, or has one of another shape, except in heads."""
    parts = {child(name, base.model) for name in read.values} - {*HEADS}
    for name, theta in base.tensors.items():
        if child(name, base.model) not in parts:
            continue
        found = read.values.get(name)
        if found is None:
            if read.whole:
                raise UserError(f"expert {expert}: tensor {name} is missing: give an expert of this base")
        elif found.shape != theta.shape and not (added and found.shape[1:] == theta.shape[1:]):
            raise UserError(
                f"expert {expert}: {name} is {list(found.shape)}, the base's {list(theta.shape)}: "
                "give an expert of this base, with its vocabulary"
            )


def _head(expert: str, folder: Path, kind: str) -> tuple[Sequence[str], int]:
    """The classes of an expert's own head: their names, if it has any, and their number."""
    if kind not in ("classifier", "image_classifier"):
        return (), 0
    classes = head_width(head_tensors(folder, expert, HEADS))
    config = folder / "config.json"
    given = read_settings(config).get("id2label") or {} if config.is_file() else {}
    labels = [str(given[key]) for key in sorted(given, key=int)]
    named = len(labels) == classes and not any(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return labels if named else (), classes


def _dtype(base: Checkpoint) -> str:
    """The dtype in which a GPU computes: half precision if the base is stored in it."""
    half = any(theta.dtype in (torch.bfloat16, torch.float16) for theta in base.tensors.values())
    return "bfloat16" if half else "float32"


def _written(source: str, out: Path) -> str:
    """A local folder relative to the configuration; a hub id as it is."""
    if not Path(source).is_dir():
        return source
    place = os.path.relpath(source, out.parent)
    return place if place.startswith("..") else f"./{place}"
