"""The stages before merging: base, experts, references, scores, divergences.

Each reads the files of the stages before it and writes its own; `python -m remerge <stage>` runs one.
"""

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from remerge import statistics
from remerge.config import Config, digest
from remerge.errors import UserError
from remerge.evaluate import score
from remerge.families import family
from remerge.files import write_folder, write_json, write_with
from remerge.models import fingerprint, locate
from remerge.references import divergences, make_reference, save_reference
from remerge.workspace import Workspace


def make_base(config: Config) -> None:
    """Find the base, or pretrain the miniature one, and record where its weights lie."""
    space, started = Workspace(config), time.perf_counter()
    folder, training = space.folder / "base", dict[str, Any]()
    if config.base.source == "miniature":
        from remerge.tasks.miniature.pretrain import pretrain

        sizes = config.base.miniature.model_dump()
        training["training"] = pretrain(folder, seed=config.seed, **sizes)
    else:
        folder = locate(config.base.source, config.base.revision)
    model = family(config.base.family, folder).load(folder, space.dtype, space.device)
    record = _record(space, model, config.base.source, folder, started)
    write_json(space.folder / "base.json", {**record, **training})


def make_expert(config: Config, task: str) -> None:
    """Fine-tune the base on one task, or on all (`multitask`), or find the existing expert."""
    # Imported here: the Trainer takes five seconds that no other stage needs.
    from remerge.finetune import finetune

    space, started = Workspace(config), time.perf_counter()
    tasks = list(config.tasks) if task == "multitask" else [task]
    source = None if task == "multitask" else config.task(task).expert
    folder, training = space.folder / "experts" / task, dict[str, Any]()
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
        trained, training["training"] = finetune(
            space.family, model, train, validation, settings, config.seed
        )
        write_folder(folder, partial(space.family.save, trained))
    else:
        folder = _existing(space, task, locate(source, config.task(task).expert_revision))
    model = space.load_folder(folder, space.dtype)
    record = _record(space, model, source or "fine-tuned here", folder, started)
    write_json(space.folder / f"experts/{task}.json", {**record, **training})


def _existing(space: Workspace, task: str, found: Path) -> Path:
    """Where an existing expert lies, or a copy without the rows of tokens that the base lacks.

    Raises:
        UserError: it has such tokens, and the configuration does not say to cut them.
    """
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


def make_reference_of(config: Config, task: str) -> None:
    """Keep an expert's greedy answers and distributions on its validation inputs."""
    space, started = Workspace(config), time.perf_counter()
    inputs = space.reference_inputs(task)
    expert = space.load(task, [task])
    reference = make_reference(space.family, expert, inputs, config.evaluation.batch_size)
    save_reference(space.reference_file(task), reference)
    write_json(
        space.folder / "references" / f"{task}.json",
        {
            "task": task,
            "inputs": len(inputs),
            "positions": sum(len(e.answer) for e in reference.examples),
            "seconds": time.perf_counter() - started,
            "device": str(space.device),
        },
    )


def make_statistics(config: Config, task: str, kind: str) -> None:
    """Compute a kind of statistics of an expert on training inputs of its task."""
    space = Workspace(config)
    examples = space.split(task, "train").examples[: config.statistics.inputs]
    model = space.load(task, [task])
    bar = tqdm(examples, desc=f"{kind} of {task}", mininterval=1)
    # One input a batch: Fisher's squares are of single inputs, and nothing is padded.
    batches = (space.family.collate([example], space.device) for example in bar)
    if kind == "fisher":
        found = statistics.fisher(model, batches, space.family.logits, seed=config.seed)
    else:
        found = statistics.grams(model, batches, space.family.logits, space.family.masks)
    tensors = {name: tensor.contiguous() for name, tensor in found.items()}
    write_with(space.statistics_file(task, kind), lambda temporary: save_file(tensors, temporary))


def score_models(config: Config) -> None:
    """Score base, multitask model (if any) and every expert on every task's test split."""

    def compute(space: Workspace, model: nn.Module, task: str) -> Any:
        return score(space.family, model, space.split(task, "test"), config.evaluation.batch_size)

    _on_every_task(config, "scores", config.models, "test", compute)


def measure_divergences(config: Config) -> None:
    """Measure how far every expert is from each task's expert on that task's validation inputs."""

    def compute(space: Workspace, model: nn.Module, task: str) -> Any:
        return divergences(space.family, model, space.reference(task), config.evaluation.batch_size)

    _on_every_task(config, "divergences", list(config.tasks), "validation", compute)


def _on_every_task(
    config: Config,
    what: str,
    models: Sequence[str],
    split: str,
    compute: Callable[[Workspace, nn.Module, str], Any],
) -> None:
    """Write ``compute`` of every model on every task, those kept from an earlier run recalled."""
    space = Workspace(config)

    def measured(load: Callable[[], nn.Module], task: str) -> Any:
        return compute(space, load(), task)

    prints = {model: space.record(model)["fingerprint"] for model in models}
    inputs = {task: space.split(task, split).digest for task in config.tasks}
    for model in tqdm(models, desc=what):
        journal, load = space.journal(what, model), cache(partial(space.load, model, list(config.tasks)))
        found = {}
        for task in config.tasks:
            key = digest(prints[model], inputs[task], prints[task] if what == "divergences" else None)
            found[task] = journal.recall(key, partial(measured, load, task))
        record = {"benchmark": config.benchmark, "model": model, what: found}
        write_json(space.folder / what / f"{model}.json", record)


def _record(space: Workspace, model: nn.Module, source: str, folder: Path, started: float) -> dict[str, Any]:
    """What is kept of a model: where it lies, what it is, how long it took."""
    return {
        "source": source,
        "path": str(folder),
        "fingerprint": fingerprint(folder),
        "family": space.config.base.family,
        "architecture": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.perf_counter() - started,
        "device": str(space.device),
    }
