"""The stages before merging: base, data, experts, references, scores, divergences.

Each reads the files of the stages before it and writes its own; `python -m remerge <stage>` runs one.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from remerge.config import Config, digest
from remerge.evaluate import accuracy
from remerge.files import write_json
from remerge.models import fingerprint, locate
from remerge.references import divergences, make_reference, save_reference
from remerge.tasks import miniature
from remerge.tasks.data import make_splits, write_split
from remerge.workspace import Workspace


def make_base(config: Config) -> None:
    """Find the base, or pretrain the miniature one, and record where its weights lie."""
    space, started = Workspace(config), time.perf_counter()
    folder, training = space.folder / "base", {}
    if config.base.source == "miniature":
        sizes = config.base.miniature.model_dump()
        training = {"training": miniature.pretrain(folder, seed=config.seed, **sizes)}
    else:
        folder = locate(config.base.source, config.base.revision)
    _record_model(space, space.folder / "base.json", config.base.source, folder, started, training)


def make_data(config: Config, task: str) -> None:
    """Write the splits of one task."""
    space = Workspace(config)
    for split, rows in make_splits(task, config.task(task), config.seed).items():
        write_split(space.data_file(task, split), rows)


def make_expert(config: Config, task: str) -> None:
    """Fine-tune the base on one task, or on all (`multitask`), or find the existing expert."""
    # Imported here: the Trainer takes five seconds that no other stage needs.
    from remerge.finetune import Recipe, finetune, save_folder

    space, started = Workspace(config), time.perf_counter()
    tasks = list(config.tasks) if task == "multitask" else [task]
    source = None if task == "multitask" else config.task(task).expert
    folder, training = space.folder / "experts" / task, {}
    if source is None:
        train = [e for t in tasks for e in space.split(t, "train").examples]
        validation = [e for t in tasks for e in space.split(t, "validation").examples]
        model = space.load("base")
        given = config.finetune.model_dump() | {"steps": config.finetune.steps * len(tasks)}
        recipe = Recipe(**given, seed=config.seed)
        on_gpu = space.device.type == "cuda"
        training = {"training": finetune(model, train, validation, recipe, bf16=on_gpu)}
        save_folder(folder, model, space.tokenizer)
    else:
        folder = locate(source)
    _record_model(
        space, space.folder / f"experts/{task}.json", source or "fine-tuned here", folder, started, training
    )


def make_reference_of(config: Config, task: str) -> None:
    """Keep an expert's greedy answers and distributions on its validation inputs."""
    space, started = Workspace(config), time.perf_counter()
    inputs = space.split(task, "validation").examples
    reference = make_reference(
        space.family, space.load(task), space.tokenizer, inputs, config.evaluation.batch_size
    )
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


def score_model(config: Config, model: str) -> None:
    """Score one model on every task's test split."""

    def compute(space: Workspace, loaded: nn.Module, task: str) -> Any:
        test = space.split(task, "test")
        return accuracy(space.family, loaded, test.examples, test.labels, config.evaluation.batch_size)

    scores = _on_every_task(config, "scores", model, "test", compute)
    write_json(
        config.folder / "scores" / f"{model}.json",
        {"benchmark": config.benchmark, "model": model, "scores": scores},
    )


def measure_divergences(config: Config, task: str) -> None:
    """Measure how far one expert is from every task's expert on that task's validation inputs."""

    def compute(space: Workspace, loaded: nn.Module, other: str) -> Any:
        return divergences(space.family, loaded, space.reference(other), config.evaluation.batch_size)

    found = _on_every_task(config, "divergences", task, "validation", compute)
    write_json(
        config.folder / "divergences" / f"{task}.json",
        {"benchmark": config.benchmark, "model": task, "divergences": found},
    )


def _on_every_task(
    config: Config,
    what: str,
    model: str,
    split: str,
    compute: Callable[[Workspace, nn.Module, str], Any],
) -> dict[str, Any]:
    """``compute`` for every task, those kept from an earlier run recalled."""
    space = Workspace(config)
    journal, loaded = space.journal(what, model), space.load(model)
    found = {}
    for task in tqdm(config.tasks, desc=f"{what} of {model}"):
        expert = space.record(task)["fingerprint"] if what == "divergences" else None
        key = digest(space.record(model)["fingerprint"], expert, space.split(task, split).digest)
        found[task] = journal.recall(key, lambda task=task: compute(space, loaded, task))  # type: ignore[misc]
    return found


def _record_model(
    space: Workspace, path: Path, source: str, folder: Path, started: float, training: dict[str, Any]
) -> None:
    model = space.family.load(folder, space.dtype, space.device)
    write_json(
        path,
        {
            "source": source,
            "path": str(folder),
            "fingerprint": fingerprint(folder),
            "family": space.config.base.family,
            "architecture": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": time.perf_counter() - started,
            "device": str(space.device),
            **training,
        },
    )
