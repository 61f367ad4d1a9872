"""The experts: the base fine-tuned on one task, or existing checkpoints."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from remerge.checkpoints.models import locate
from remerge.checkpoints.stored import is_linearised
from remerge.config import Config, digest
from remerge.errors import UserError
from remerge.files import write_folder
from remerge.stages._workspace import Workspace, model_record


def run(config: Config, task: str) -> None:
    """Fine-tune the base on one task, or on all (`multitask`), or find the existing expert."""
    # Imported here: the Trainer takes five seconds that no other stage needs.
    from remerge.finetune import finetune

    space, started = Workspace(config), time.perf_counter()
    tasks = list(config.tasks) if task == "multitask" else [task]
    source = None if task == "multitask" else config.task(task).expert
    folder, training = space.folder / "experts" / task, None
    follows: dict[str, str] = {}
    if source is None:
        train = [e for t in tasks for e in space.split(t, "train").examples]
        validation = [e for t in tasks for e in space.split(t, "validation").examples]
        # Fresh heads are drawn while the model is loaded and equipped.
        torch.manual_seed(config.seed)
        # Trainer computes in the base's precision and keeps the weights in float32.
        model = space.load_folder(space.path("base"), torch.float32)
        space.equip(model, dict.fromkeys(tasks))
        settings = config.finetune
        if task == "multitask":
            steps = settings.multitask_steps or settings.steps * len(tasks)
            settings = settings.model_copy(update={"steps": steps})
        elsewhere = set(config.tasks) - set(tasks) if settings.recipe == "tau_jp" else ()
        others = [space.split(t, "train").examples for t in sorted(elsewhere)]
        trained, training = finetune(space.family, model, train, validation, settings, config.seed, others)
        write_folder(folder, partial(space.family.save, trained))
        read = [(t, split) for t in tasks for split in ("train", "validation")]
        read += [(t, "train") for t in sorted(elsewhere)]
        follows = {
            "base": space.record("base").content,
            "inputs": digest([space.split(*part).digest for part in read]),
            "settings": digest(settings, config.seed),
        }
    else:
        folder = _existing(space, task, locate(source, config.task(task).expert_revision))
    model = space.load_folder(folder, space.dtype)
    record = model_record(space, task, model, source or "fine-tuned here", folder, started, training, follows)
    record.write(space.folder, model=task)


def _existing(space: Workspace, task: str, found: Path) -> Path:
    """Where an existing expert lies, or a copy without the rows of tokens that the base lacks.

    Raises:
        UserError: it has such tokens, and the configuration does not say to cut them; or it is linearised
            where ordinary experts are asked for, or the other way round.
    """
    recipe = space.config.finetune
    if is_linearised(found) != recipe.linear:
        kind = "an ordinary" if recipe.linear else "a linearised"
        raise UserError(
            f"{found}: {kind} model, which finetune.recipe {recipe.recipe} does not take: "
            f"leave tasks.{task}.expert out"
        )
    added = space.family.added(found)
    if not added:
        return found
    if space.config.base.vocabulary == "same":
        shown = ", ".join(map(repr, added[:8])) + (", …" if len(added) > 8 else "")
        raise UserError(
            f"{found}: {len(added)} tokens that the base lacks: {shown}: "
            "set base.vocabulary to common to merge the rows of the others"
        )
    model: Any = space.load_folder(found, torch.float32)
    space.equip(model, {task: found})
    base: Any = space.load_folder(space.path("base"), space.dtype)
    model.resize_token_embeddings(base.get_input_embeddings().num_embeddings)
    folder = space.folder / "experts" / task
    write_folder(folder, partial(space.family.save, model))
    return folder
