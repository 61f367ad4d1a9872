"""A configuration to start from, written by looking at a base and its experts."""

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
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from remerge.checkpoints.architecture import HEADS, child
from remerge.checkpoints.models import head_tensors, head_width, locate
from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.stored import is_adapter
from remerge.errors import UserError
from remerge.families import Family, family
from remerge.files import read_json, write_text
from remerge.folders.experts import Expert, read_base, read_expert

ARCHITECTURES = {
    "classifier": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "seq2seq": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "causal_lm": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
}
"""The architectures that each family of texts reads, by transformers' own lists."""

TASK_TYPES = {"SEQ_CLS": "classifier", "SEQ_2_SEQ_LM": "seq2seq", "CAUSAL_LM": "causal_lm"}
"""The same of adapters, by PEFT's word for what they were trained for."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""A task's name: it becomes a part of the names of files."""


@dataclass(frozen=True)
class Seen:
    """An expert as it was found.

    Attributes:
        source: its folder as the configuration has it, or its hub id.
        adapter: whether it is an adapter of the base.
        labels: its head's classes in words, where it has a head and its configuration names them.
        classes: how many classes its head tells apart; 0 of one without a head.
        added: how many tokens it has that the base lacks.
    """

    source: str
    adapter: bool
    labels: Sequence[str]
    classes: int
    added: int


def write_configuration(out: Path, base: str, experts: Sequence[str]) -> None:
    """Write a configuration that merges some checkpoints; what only their owner knows is left to fill in.

    Args:
        out: a YAML file that is not there yet; it is called as the benchmark will be.
        base: a folder of safetensors, or a hub id.
        experts: the same for each expert, ``name=folder`` or the folder alone; LoRA adapters too.

    Raises:
        UserError: the file is there, or one of the checkpoints is none, or not of this base.
    """
    if out.exists():
        raise UserError(f"{out} exists: give another name, or remove it")
    name = out.stem
    if out.suffix not in (".yaml", ".yml") or not NAME.fullmatch(name):
        raise UserError(f"{out}: call it NAME.yaml, of letters, digits, _ and -: NAME is the benchmark's")
    sources = _named(experts)
    folder = locate(base)
    if is_adapter(folder):
        raise UserError(f"{base} is an adapter: give the model that it was trained on as --base")
    whole = read_base(folder)
    if whole.model is None:
        raise UserError(f"{base}: transformers has no such architecture: only `remerge merge` can merge it")
    folders = {expert: locate(source) for expert, source in sources.items()}
    read = {expert: read_expert(expert, place, whole) for expert, place in folders.items()}
    kind = _family(whole, folders)
    reader = family(kind, folder)
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
        name, equals, source = written.partition("=")
        if not equals:
            name, source = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(written).name).strip("-"), written
        if not NAME.fullmatch(name):
            raise UserError(
                f"--expert {written}: a task's name has letters, digits, _ and - only: name=folder"
            )
        if name in named or name in ("base", "multitask"):
            why = "is called so already" if name in named else "is what a reference model is called"
            raise UserError(f"--expert {written}: {name} {why}: give another name, name=folder")
        named[name] = source
    if len(named) < 2:
        raise UserError("a benchmark merges two experts or more: give --expert again")
    return named


def _family(base: Checkpoint, folders: Mapping[str, Path]) -> str:
    """The family whose models the experts are.

    Raises:
        UserError: they are of several, or of none.
    """
    config: Any = base.model.config if base.model is not None else None
    if config.model_type.startswith("clip"):
        return "clip"
    own = _kind(type(base.model).__name__)
    kinds = {expert: _trained_for(folder) or own for expert, folder in folders.items()}
    for expert, kind in kinds.items():
        if kind is None:
            made = type(base.model).__name__
            raise UserError(
                f"{folders[expert]}: neither it nor the base ({made}) says how it answers: give a "
                "model with a language-modelling head, or one of sequence classification"
            )
    first, *others = kinds
    for expert in others:
        if kinds[expert] != kinds[first]:
            raise UserError(
                f"{first} is a {kinds[first]}, {expert} a {kinds[expert]}: a benchmark asks all experts alike"
            )
    return str(kinds[first])


def _trained_for(folder: Path) -> str | None:
    """The family that a checkpoint itself names."""
    if is_adapter(folder):
        given = read_json(folder / "adapter_config.json")
        headed = {*(given.get("modules_to_save") or ())} & {*HEADS}
        return TASK_TYPES.get(str(given.get("task_type"))) or ("classifier" if headed else None)
    names = read_json(folder / "config.json").get("architectures") or [""]
    return _kind(str(names[0]))


def _kind(architecture: str) -> str | None:
    """The family that reads a class of transformers."""
    for kind, known in ARCHITECTURES.items():
        names = [name for value in known.values() for name in ([value] if isinstance(value, str) else value)]
        if architecture in names:
            return kind
    return None


def _must_fit(expert: str, read: Expert, base: Checkpoint, reader: Family, added: bool) -> None:
    """Refuse a model that lacks a tensor of the base, or has one of another shape, heads apart."""
    parts = {child(name, base.model) for name in read.values} - {*HEADS}
    for name, theta in base.tensors.items():
        if child(name, base.model) not in parts:
            continue
        found = read.values.get(name)
        if found is None:
            if read.whole:
                raise UserError(f"expert {expert}: tensor {name} is missing: not trained from this base?")
        elif found.shape != theta.shape and not (added and found.shape[1:] == theta.shape[1:]):
            raise UserError(
                f"expert {expert}: {name} is {list(found.shape)}, the base's {list(theta.shape)}: "
                "another architecture or vocabulary"
            )


def _head(expert: str, folder: Path, kind: str) -> tuple[Sequence[str], int]:
    """The classes that an expert's own head tells apart: in words if it names them, and how many."""
    if kind != "classifier":
        return (), 0
    classes = head_width(head_tensors(folder, expert, HEADS))
    config = folder / "config.json"
    given = read_json(config).get("id2label") or {} if config.is_file() else {}
    labels = [str(given[key]) for key in sorted(given, key=int)]
    named = len(labels) == classes and not any(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return labels if named else (), classes


def _dtype(base: Checkpoint) -> str:
    """The dtype in which a GPU computes: half precision where the base is stored in it."""
    half = any(theta.dtype in (torch.bfloat16, torch.float16) for theta in base.tensors.values())
    return "bfloat16" if half else "float32"


def _written(source: str, out: Path) -> str:
    """A folder relative to the configuration, as it names local ones; a hub id as it is."""
    if not Path(source).is_dir():
        return source
    place = os.path.relpath(source, out.parent)
    return place if place.startswith("..") else f"./{place}"
