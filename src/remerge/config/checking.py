"""Checks of a configuration before work starts: methods, local data, disk."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remerge import sources
from remerge.config.benchmark import Config
from remerge.config.merging import Variant
from remerge.config.tasks import Task
from remerge.errors import UserError
from remerge.files import DATA, MODEL, check_folder, nearest, read_settings
from remerge.units import Extent
from remerge.variants import Grid, parse

if TYPE_CHECKING:
    from torch import Tensor

    from remerge.methods import Method


def check(config: Config, here: bool = True, trusted: bool = True) -> None:
    """Check methods, parameters, prompts against local data, heads of local experts, the folder of results.

    This imports the methods, and with them torch.

    Args:
        config: the configuration to check.
        here: whether jobs run on this machine.
        trusted: whether the configuration's own methods may be run; if not, their parameters are not checked.

    Raises:
        UserError: the first fault that would stop the work after it has started.
    """
    _check_results(config)
    if here:
        _check_threads(config)
    _check_container(config)
    if trusted:
        _check_methods(config, set())
    else:
        with sources.without_own():
            _check_methods(config, config.own)
    for name, task in config.tasks.items():
        _check_columns(name, task)
        if not config.base.speaks:
            _check_head(name, task)
    _check_room(config)


def missing(config: Config) -> list[str]:
    """The local folders of models and data that are not there, one line each by its key.

    A plan can be made without them, and a project can be written before all are fetched.
    """
    asked = [("base.source", config.base.source, MODEL)]
    for name, task in config.tasks.items():
        asked.append((f"tasks.{name}.expert", task.expert or "", MODEL))
        asked.append((f"tasks.{name}.source", task.source, DATA))
    said = []
    for key, source, remedy in asked:
        try:
            check_folder(key, source, remedy)
        except UserError as error:
            said.append(str(error))
    return said


def measured(config: Config) -> tuple[list[str], dict[str, Extent]]:
    """Remarks on local data, which are read for them, one line each, and the sizes of their tasks.

    Prompts and answers are measured if the base is local, too; sizes are known only then.

    Raises:
        UserError: as `remerge.splits.make_splits`; the base's folder does not fit its family; answers of a
            choice that the model could not compare.
    """
    from remerge.families import family
    from remerge.measures.choice import options
    from remerge.measures.lengths import lengths
    from remerge.splits import described, make_splits
    from remerge.tasks import answers_of, pairs

    base = Path(config.base.source)
    reader = family(config.base.family, base) if base.is_dir() else None
    said: list[str] = []
    found: dict[str, Extent] = {}
    for name, task in config.tasks.items():
        if not Path(task.source).is_dir():
            continue
        made = make_splits(name, task, config.seed)
        said += [f"tasks.{name}: {fact}" for fact in described(name, task, made).remarks()]
        if reader is None:
            continue
        longest = task.answer_tokens or 0
        for split, rows in made.rows.items():
            where = f"tasks.{name}: {split}"
            asked = pairs(where, task, rows, config.base.speaks)
            if task.chooses and config.base.speaks and split != "train":
                examples = options(where, reader, name, asked, [answers_of(task, r) for r in rows]).examples
            else:
                examples = reader.examples(name, asked)
            said += [f"tasks.{name}: {fact}" for fact in lengths(reader, asked, examples).remarks(split)]
            longest = max(longest, *(len(example.answer) for example in examples))
        found[name] = Extent(**{split: len(rows) for split, rows in made.rows.items()}, answer=longest)
    return said, found


def _check_results(config: Config) -> None:
    """Refuse results below something that is no folder, such as a link to a disk that is not there."""
    for above in (config.folder, *config.folder.parents):
        if os.path.lexists(above) and not above.is_dir():
            raise UserError(f"{above}: no folder, and results are written there: move it, or mend the link")


def _check_threads(config: Config) -> None:
    """Refuse more threads than cores: they would wait for one another."""
    cores = os.cpu_count() or 1
    pretraining = config.base.miniature.threads if config.base.source == "miniature" else 0
    for key, threads in (("threads", config.threads), ("base.miniature.threads", pretraining)):
        if threads > cores:
            raise UserError(f"{key}: {threads} is more than the {cores} cores of this machine: lower it")


def _check_container(config: Config) -> None:
    image = config.container
    if image and "://" not in image and not Path(image).is_file():
        raise UserError(f"container: {image} is missing: give the file of an image, or docker://…")


def _check_methods(config: Config, untouched: set[str]) -> None:
    """Check parameters, but of no method that is to stay untouched."""
    from remerge.methods import find

    # Those of methods that no variant uses, too: a file that includes this one may use them.
    defaults: Mapping[str, Mapping[str, Any]] = config.merge.defaults
    for name, params in defaults.items():
        if name in untouched:
            continue
        for key, value in params.items():
            for point in Grid({key: value}).sample:
                find(name).must_take(key, point.get(key, value))
    for variant in config.merge.variants:
        methods = {variant.method, *(parse(written)[0] for written in config.over(variant))}
        if variant.name in config.external or methods & untouched:
            continue
        method, sample = find(variant.method), _sample(config, variant)
        points = [method.settings({**config.params(variant), **p}) for p in config.grid(variant).sample]
        for settings in points:
            _try(method, settings, sample)
        if variant.seeds > 1 and not any(_is_random(method, settings, sample) for settings in points):
            raise UserError(f"merge.variants: {variant.name} has nothing random in it: leave seeds out")
        if not config.groups(variant):
            experts = method.needs.experts
            why = (
                f"it merges {experts} experts and no plan has such merges" if experts else "no plan names it"
            )
            raise UserError(f"merge.variants: {variant.name} makes no merges, since {why}: leave it out")
        for plan in config.chosen_for(variant):
            if not config.tuning(variant, plan):
                raise UserError(
                    f"plans.{plan}.tune_on: {variant.name} can make none of these: name one that it can"
                )
    made = {plan for variant in config.merge.variants for plan in config.groups(variant).values()}
    for plan in config.planned:
        if plan not in made:
            raise UserError(
                f"plans.{plan}: no variant can make its merges: list one that can, or leave it out"
            )


def _sample(config: Config, variant: Variant) -> list[tuple[str, ...]]:
    """The experts of some of a variant's merges: of the smallest, and of the largest with each expert."""
    every = [case for group, plan in config.groups(variant).items() for case in config.cases(plan)[group]]
    every += [case for plan in config.chosen_for(variant) for case in config.tuning(variant, plan)]
    every.sort(key=lambda case: len(case.tasks))
    largest = {task: case for case in every for task in case.tasks}
    return [*dict.fromkeys(case.tasks for case in (*every[:1], *largest.values()))]


def _is_random(method: "Method", settings: dict[str, Any], merges: list[tuple[str, ...]]) -> bool:
    """Whether another seed makes another merge, as of KnOTS only with a random inner method."""
    if method.learned or "seed" not in settings:
        return method.learned
    one, other = (_try(method, {**settings, "seed": seed}, merges[:1], (64, 64)) for seed in (0, 1))
    # What cannot be tried without a model is taken to be random.
    return not one or any(not tau.equal(more) for tau, more in zip(one, other, strict=True))


def _try(
    method: "Method",
    settings: dict[str, Any],
    merges: list[tuple[str, ...]],
    shape: tuple[int, int] = (8, 6),
) -> list["Tensor"]:
    """Merge a few numbers by a method, which refuses parameters that do not fit together or the merges.

    For one that learns, they are prepared as its task vectors will be.
    """
    import torch

    from remerge.deltas import Deltas
    from remerge.methods import contained, prepare

    if method.learned:
        _try_objective(method, settings)
    if method.needs.statistics or any(p.required for p in method.parameters.values()):
        # These, or the layers that required coefficients name, need a model.
        return []
    merging = str(settings["over"]) if method.learned else method.name
    generator = torch.Generator().manual_seed(0)
    sizes = {"layer.weight": shape, "layer.bias": shape[:1]}
    base = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
    made: list[torch.Tensor] = []
    for experts in merges:
        states = {e: {n: torch.randn(t.shape, generator=generator) for n, t in base.items()} for e in experts}
        deltas = Deltas(base, states)
        with contained(merging, deltas):
            if method.learned:
                made += prepare(merging, deltas).values()
            else:
                made += [tau for _, tau in method.merge(deltas, settings)]
    return made


def _try_objective(method: "Method", settings: dict[str, Any]) -> None:
    """Compute the losses of a few predictions, which an objective refuses that gives none, or random ones."""
    import torch

    from remerge.methods import repeatable

    cpu = torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    # As many words as a small vocabulary has: an objective may look at the likeliest of them.
    expert, merged = torch.randn(2, 3, 4096, generator=generator).log_softmax(dim=-1)
    with repeatable(method.name, [cpu]):
        method.objective(settings)(expert if method.needs.answers else expert[:0], merged.requires_grad_())


def _check_columns(name: str, task: Task) -> None:
    """Refuse a template with a field that local data lack."""
    from remerge.datafiles import columns_of

    if not Path(task.source).is_dir():
        return
    for split in dict.fromkeys([task.splits.train, task.splits.validation, task.splits.test]):
        there = columns_of(Path(task.source), split)
        lacking = sorted(task.columns - set(there)) if there is not None else []
        if lacking:
            raise UserError(
                f"tasks.{name}: no column {lacking[0]!r} in split {split!r} of {task.source} "
                f"(its columns: {', '.join(there or [])}): see prompt, answers and target"
            )


def _check_head(name: str, task: Task) -> None:
    """Refuse a local expert whose head has another width than the task has answers."""
    file = Path(task.expert or "") / "config.json"
    if task.expert is None or not task.answers or not file.is_file():
        return
    labels = read_settings(file).get("id2label")
    if labels and isinstance(labels, Mapping) and len(labels) != len(task.answers):
        raise UserError(
            f"{file}: the head of {name} has {len(labels)} classes, and tasks.{name}.answers names "
            f"{len(task.answers)}: name every class in the order of the head's outputs"
        )


def _check_room(config: Config) -> None:
    """Refuse to fine-tune more experts than the disk has room for, where the base's size is known."""
    folder = Path(config.base.source)
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0
    if config.finetune.lora is not None or not weights:
        return
    trained = [name for name, task in config.tasks.items() if task.expert is None]
    trained += ["multitask"] if config.finetune.multitask else []
    missing = [name for name in trained if not (config.folder / "experts" / name).is_dir()]
    # Experts are stored in float32.
    needed = len(missing) * weights * (2 if _is_half(folder) else 1)
    place = nearest(config.folder)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{place}: {len(missing)} experts take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
            "make room, or run elsewhere"
        )


def _is_half(folder: Path) -> bool:
    config = read_settings(folder / "config.json") if (folder / "config.json").is_file() else {}
    return str(config.get("dtype") or config.get("torch_dtype")) in ("bfloat16", "float16")
