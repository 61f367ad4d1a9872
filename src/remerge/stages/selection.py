"""A learned method's settings, chosen on validation scores."""

from functools import partial

from tqdm import tqdm

from remerge.config import Config, digest
from remerge.errors import UserError
from remerge.files import write_json
from remerge.methods import find
from remerge.stages._bench import Bench, Choice, key_of


def run(config: Config, variant: str) -> None:
    """Choose a learned method's learning rate and initial coefficient on validation scores."""
    chosen, bench = config.variant(variant), Bench(config)
    method = find(chosen.method)
    settings = method.settings(chosen.params)
    select, subsets = config.learning.select, config.initial_subsets()
    journal = bench.space.journal("selection", variant)
    alone, average = {}, find("average")
    for task in sorted({task for subset in subsets for task in subset}):
        bench.merge(average, average.settings({}), [task])
        alone[task] = bench.scores([task], "validation")[task]["value"]
        if alone[task] <= 0:
            raise UserError(
                f"tasks.{task}: its expert scores 0 on its own validation split: train it further"
            )

    def validate(choice: Choice, subset: tuple[str, ...]) -> float:
        bench.fit(method, settings, choice, subset)
        scores = bench.scores(subset, "validation")
        kept: list[float] = [scores[task]["value"] / alone[task] for task in subset]
        return 100 * sum(kept) / len(subset)

    choices = [Choice(lr, initial) for lr in select.learning_rate for initial in select.initial]
    grid = []
    with tqdm(total=len(choices) * len(subsets), desc=f"select {variant}", mininterval=1) as bar:
        for choice in choices:
            found = {}
            for subset in subsets:
                key = digest(key_of(bench, chosen, subset, choice))
                found["+".join(subset)] = journal.recall(key, partial(validate, choice, subset))
                bar.update()
            mean = sum(found.values()) / len(found)
            grid.append({**vars(choice), "validation": found, "mean": mean})
    best = max(grid, key=lambda point: point["mean"])
    write_json(
        config.folder / "selection" / f"{variant}.json",
        {
            "benchmark": config.benchmark,
            "variant": variant,
            "method": method.name,
            "params": settings,
            "subsets": ["+".join(subset) for subset in subsets],
            "grid": grid,
            "chosen": {key: best[key] for key in ("learning_rate", "initial")},
        },
    )
