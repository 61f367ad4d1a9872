"""One merge of a benchmark as a folder that `from_pretrained` loads: made again as it was scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import EvalResult
from torch import nn

from remerge.checkpoints.stored import stored_tensors
from remerge.config import Config
from remerge.deltas import LowRank, Merged, rounded, without_tf32
from remerge.files import is_place, read_settings, write_folder
from remerge.folders.adapter import HINT as ADAPTER_HINT
from remerge.folders.adapter import adapter_of, low_rank
from remerge.folders.card import coefficient_table, markdown, model_card
from remerge.folders.recipe import HINT, RECIPE, recipe_of
from remerge.folders.starting import TASK_TYPES
from remerge.methods import prepare
from remerge.records import Merge
from remerge.stages._again import Again, again, coefficients_in
from remerge.stages._bench import Bench
from remerge.stages._models import TRAINED


def run(config: Config, variant: str, subset: str) -> None:
    """Make one merge again and write it, with its model card, to `exports/<variant>/<subset>`.

    Learned coefficients are taken from the merge's record, so that these are the weights that were
    scored; without a record they are learned here. A record of other code, settings, models or inputs
    than today's is refused. A merge of adapters that changes the base by low rank,
    as linear methods and decompositions other than wudi and doge do, becomes one adapter. Arguments and
    errors are as in `again`.
    """
    made = again(config, variant, subset)
    bench, tasks, record = made.bench, made.tasks, made.record
    dtype, factors = _stored_dtype(bench.space.path("base")), _factors(made)
    base, experts = _source(bench, "base"), {task: _source(bench, task) for task in tasks}
    model: Any
    if factors is None:
        model = _whole(made, dtype)
    else:
        model = adapter_of(bench.model, factors, base, _task_type(config))
    # mergekit would merge heads, and add adapters in its own precision.
    expressible = config.base.speaks and not any(map(bench.space.adapts, tasks))
    recipe = _recipe(made, base, experts, dtype) if expressible else None
    sections = [
        *([coefficient_table(made.coefficients)] if made.coefficients else []),
        _scores(bench, record) if record else "It was not scored.",
        *_hints(bench, adapted=factors is not None, mergekit=recipe is not None),
        f"Seed {config.seed}. To make it again, run this in the folder of the pipeline:",
        f"```sh\nremerge exports {config.folder}/config.yaml {variant} {subset}\n```",
    ]
    card = model_card(
        f"{variant} of {', '.join(tasks)}",
        base,
        experts,
        made.method,
        record.params if record else made.settings,
        sections,
        library="transformers" if factors is None else "peft",
        scores=_measured(config, record) if record else (),
    )

    def save(folder: Path) -> None:
        bench.space.family.save(model, folder)
        if recipe:
            (folder / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
        (folder / "README.md").write_text(card, "utf-8")

    write_folder(config.folder / "exports" / variant / subset, save)


def _whole(made: Again, dtype: str) -> nn.Module:
    """The merge as a whole model, in this dtype."""
    made.write()
    stored: torch.dtype = getattr(torch, dtype)
    for name, theta in made.bench.parameters.items():
        rounded(name, theta, stored)  # which refuses numbers that are too large for it
    return made.bench.model.to(stored)


@without_tf32()
def _factors(made: Again) -> dict[str, LowRank] | None:
    """The change of the base that a merge of adapters is, if it is low-rank."""
    method, settings = made.method, made.settings
    if method.needs.statistics or not all(map(made.bench.space.adapts, made.tasks)):
        return None
    deltas = made.bench.deltas(dict.fromkeys(made.tasks, 1))
    merged: Merged
    if method.learned:
        prepared = prepare(settings["over"], deltas)
        merged = prepared.combine({name: coefficients_in(made.coefficients, name) for name in prepared})
    else:
        merged = method.merge(deltas, settings)
    return low_rank(made.bench.theta_0, deltas, merged)


def _task_type(config: Config) -> str | None:
    """PEFT's name for what an adapter is for, where no task has a head of its own."""
    known = (kind for kind, family in TASK_TYPES.items() if family == config.base.family)
    return next(known, None) if config.base.speaks else None


def _source(bench: Bench, model: str) -> str:
    """The source of a model: its hub id, or its folder's absolute path."""
    record = bench.space.record(model)
    local = record.source in ("miniature", TRAINED) or Path(record.source).is_dir()
    return str(Path(record.path).resolve()) if local else record.source


def _recipe(made: Again, base: str, experts: Mapping[str, str], dtype: str) -> dict[str, Any] | None:
    """mergekit's recipe for the merge, if it can make it.

    If the pipeline removed an expert's added tokens, its new folder is given.
    """
    space, revision = made.bench.space, made.bench.config.base.revision
    paths = {task: space.path(task) for task in experts}
    own = {task for task, path in paths.items() if path.is_relative_to(space.folder)}
    merged = {task: str(paths[task].resolve()) if task in own else source for task, source in experts.items()}
    exact = f"{base}@{revision}" if revision else base
    stored = stored_tensors(space.path("base"))
    return recipe_of(made.method, made.settings, exact, merged, made.coefficients, dtype, stored)


def _hints(bench: Bench, *, adapted: bool, mergekit: bool) -> list[str]:
    """Hints on how to use the folder."""
    hints = []
    if adapted:
        hints.append(ADAPTER_HINT)
    if bench.space.family.heads(bench.model):
        hints.append(
            "Each task is read through its own head: load the model with its `num_labels`, then "
            "`model.load_state_dict(load_file('heads/<task>.safetensors'), strict=False)`."
        )
    if bench.config.base.fixed_heads:
        hints.append(
            "This is the vision tower alone. The base's text tower and projections make each task's classes, "
            "from the captions that the configuration gives the task."
        )
    if mergekit:
        hints.append(HINT)
    else:
        hints.append(f"mergekit 0.1.5 cannot express this merge exactly: there is no `{RECIPE}`.")
    return hints


def _stored_dtype(folder: Path) -> str:
    """The dtype of a checkpoint, from its configuration."""
    config = read_settings(folder / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _measured(config: Config, record: Merge) -> list[EvalResult]:
    """The scores of a merge in the format of the hub's metadata; local data appear as the task's name."""
    found = []
    for name, score in record.scores.items():
        task = config.tasks[name]
        kind = "image-classification" if task.image else "text-classification"
        kind = "multiple-choice" if task.chooses and not task.together else kind
        local = task.source == "miniature" or is_place(task.source)
        found.append(
            EvalResult(
                task_type=kind if task.answers else "text-generation",
                dataset_name=name,
                dataset_type=name if local else task.source,
                dataset_config=None if local else task.subset,
                dataset_split=task.splits.test,
                metric_type=score.metric,
                metric_value=score.value,
            )
        )
    return found


def _scores(bench: Bench, record: Merge) -> str:
    """The scores of the merge on each task's test split."""
    rows = [
        (
            task,
            score.metric,
            f"{score.value:.4f}",
            f"{bench.space.expert_score(task).value:.4f}",
            f"{record.normalised[task]:.4f}",
        )
        for task, score in record.scores.items()
    ]
    head = ("task", "metric", "this merge", "the task's expert", "normalised")
    return f"{markdown([head, *rows])}\n\nANP (100 times the mean of the last column): {record.anp:.2f}."
