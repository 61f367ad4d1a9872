"""The experts: the base fine-tuned on one task, or existing checkpoints."""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from remerge import sources
from remerge.checkpoints.architecture import AS_DATA, unlike
from remerge.checkpoints.models import locate
from remerge.checkpoints.stored import is_adapter, is_linearised, other_base
from remerge.config import Config, digest
from remerge.errors import UserError
from remerge.files import check_writable, write_folder
from remerge.notes import note_on
from remerge.runs import alone
from remerge.stages._code import code
from remerge.stages._models import TRAINED, model_record
from remerge.stages._workspace import Workspace
from remerge.training import existing, others_of, settings_of, tasks_of


def run(config: Config, task: str) -> None:
    """Fine-tune the base on one task or on all (`multitask`), or find an existing expert."""
    space, started = Workspace(config), time.perf_counter()
    source, training = existing(config, task), None
    if source is None:
        folder, training = _trained(space, task)
    else:
        folder = _existing(space, task, source)
    model: Any = space.load_folder(folder, space.dtype)
    _note_differences(space, task, folder, model.config)
    known, made = follows(space, task), source or TRAINED
    record = model_record(space, task, model, made, folder, started, training, known)
    record.write(space.folder, model=task)


def _trained(space: Workspace, task: str) -> tuple[Path, dict[str, Any]]:
    """The folder of an expert that is trained here, and how its training went."""
    # Imported here: the Trainer takes five seconds that no other stage needs.
    from remerge.finetune import finetune

    config, tasks = space.config, tasks_of(space.config, task)
    train, validation = (
        [e for t in tasks for e in space.split(t, split).examples] for split in ("train", "validation")
    )
    # Fresh heads are drawn while the model is loaded and equipped.
    torch.manual_seed(config.seed)
    # On a GPU Trainer computes in bfloat16, and keeps the weights in float32.
    start = space.load_folder(space.path("base"), torch.float32)
    space.equip(start, dict.fromkeys(tasks))
    settings = settings_of(config, task)
    others = [space.split(t, "train").examples for t in others_of(config, task)]
    folder, kept = space.folder / "experts" / task, space.folder / "training" / task
    checkpoints = kept / _key(space, task)
    check_writable(checkpoints)
    with alone(kept.with_suffix(".lock")):
        trained, training = finetune(
            space.family, start, train, validation, settings, config.seed, checkpoints, others
        )
        write_folder(folder, partial(space.family.save, trained))
        shutil.rmtree(kept)
    return folder, training


def _note_differences(space: Workspace, task: str, folder: Path, own: Any) -> None:
    """Tell of another base, or other settings, of an expert than those of the base that it is merged with."""
    key, base = f"tasks.{task}.expert", space.path("base", weights=False)
    if existing(space.config, task) is not None and is_adapter(folder):
        named = other_base(folder, base)
        note_on(named, f"the base of {key}: merged into the given one all the same")
    settings = AutoConfig.from_pretrained(base, **AS_DATA)
    note_on(unlike(own, settings), f"not the same in {key}: merges keep the base's")


def follows(space: Workspace, task: str) -> dict[str, str]:
    """The inputs of an expert's training here, each by a digest; empty for an existing expert."""
    config = space.config
    if existing(config, task) is not None:
        return {}
    read = [(t, split) for t in tasks_of(config, task) for split in ("train", "validation")]
    read += [(t, "train") for t in others_of(config, task)]
    return {
        "base": space.record("base").content,
        "inputs": digest([space.split(*part).digest for part in read]),
        "settings": digest(settings_of(config, task), config.seed),
    }


def _key(space: Workspace, task: str) -> str:
    """Everything that a training depends on: a different training cannot resume from its checkpoints."""
    machine = [space.config.threads, str(space.device)]
    return digest(follows(space, task), machine, code(space.config, sources.PACKAGE / "finetune.py"))


def _existing(space: Workspace, task: str, source: str) -> Path:
    """The folder of an existing expert, or of a copy with the base's rows for tokens that the base lacks.

    Raises:
        UserError: it has such tokens, and the configuration does not say to remove them; or it is linearised
            where ordinary experts are asked for, or the other way round.
    """
    found = locate(source, space.config.task(task).expert_revision, f"tasks.{task}.expert")
    recipe = space.config.finetune
    if is_linearised(found) != recipe.linear:
        kind = "an ordinary" if recipe.linear else "a linearised"
        raise UserError(
            f"{found}: {kind} model, which does not fit finetune.recipe {recipe.recipe}: "
            f"leave tasks.{task}.expert out"
        )
    added, common = space.family.added(found), space.config.base.vocabulary == "common"
    if not added and not (common and space.config.base.reads == "text" and _is_resized(space, found)):
        return found
    if not common:
        shown = ", ".join(map(repr, added[:8])) + (", …" if len(added) > 8 else "")
        raise UserError(
            f"{found}: {len(added)} tokens that the base lacks: {shown}: "
            "set base.vocabulary to common to merge the rows of the other tokens"
        )
    dtype = torch.float32 if is_adapter(found) else space.stored(found)
    model = space.load_folder(found, dtype)
    space.equip(model, {task: found})
    _cut(model, space.load_folder(space.path("base"), dtype), len(space.family.processor))
    folder = space.folder / "experts" / task
    write_folder(folder, partial(space.family.save, model))
    return folder


def _is_resized(space: Workspace, found: Path) -> bool:
    """Whether a whole model has another number of rows of embeddings than the base."""
    if is_adapter(found):
        return False
    configs = [AutoConfig.from_pretrained(f, **AS_DATA) for f in (found, space.path("base", False))]
    own, base = (config.get_text_config().vocab_size for config in configs)
    return bool(own != base)


@torch.no_grad()
def _cut(model: Any, base: Any, words: int) -> None:
    """Give a model as many rows of embeddings as the base has, and the base's own beyond its words.

    A model with fewer, as after a resize to the number of its tokens, would get rows drawn at random.
    """
    rows, had = (whole.get_input_embeddings().num_embeddings for whole in (base, model))
    model.resize_token_embeddings(rows, mean_resizing=False)
    for part in ("get_input_embeddings", "get_output_embeddings"):
        own, theirs = (getattr(whole, part)() for whole in (model, base))
        for name, theta in own.named_parameters() if own is not None else ():
            first = min(had, words)
            theta[first:] = theirs.get_parameter(name)[first:]
