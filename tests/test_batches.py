"""Every choice and merge is made by exactly one process, however they are dealt out."""

from collections import Counter
from pathlib import Path

import pytest

from remerge import config as configuration
from remerge.batches import batches

CONFIGS = sorted((Path(__file__).parent.parent / "config").glob("*.yaml"))


@pytest.mark.parametrize("shards", [1, 3, 1000])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_choice_and_each_merge_is_made_once(path: Path, shards: int) -> None:
    config = configuration.load(path).model_copy(update={"shards": shards})
    dealt = list(batches(config).values())
    made = Counter((variant.name, group) for batch in dealt for variant, group in batch.merges)
    assert made == {(v.name, group): 1 for v in config.merge.variants for group in config.groups(v)}
    chosen = Counter((variant.name, plan) for batch in dealt for plan, variant in batch.choices)
    assert chosen == {(v.name, plan): 1 for v in config.merge.variants for plan in config.chosen_for(v)}
    for batch in dealt:
        assert {v.method for _, v in batch.choices} | {v.method for v, _ in batch.merges} == {batch.method}
        learned = {v.name for v, _ in batch.merges if config.is_learned(v)}
        assert len(learned) <= 1
        assert shards == 1 or not (batch.choices and batch.merges)


@pytest.mark.parametrize("shards", [2, 5, 1000])
@pytest.mark.parametrize("name", ["demo", "demo-slides"])
def test_shares_of_a_batch_hold_each_trial_and_each_merge_once_and_are_alike(name: str, shards: int) -> None:
    config = configuration.load(CONFIGS[0].parent / f"{name}.yaml").model_copy(update={"shards": shards})
    for batch in batches(config).values():
        shares = batch.shares(config)
        trials, merges = Counter[object](), Counter[object]()
        weights = []
        for share in shares:
            work = 0
            for plan, variant, part in share.choices:
                cases = config.tuning(variant, plan)
                every = [(case, k) for case in cases for k in range(config.grid(variant).size)]
                trials.update((variant.name, plan, case.name, k) for case, k in every[part])
                work += sum(len(case.tasks) + len(case.judged) for case, _ in every[part])
            for variant, group, part in share.merges:
                cases = config.cases(config.groups(variant)[group])[group][part]
                merges.update((variant.name, group, case.name) for case in cases)
                work += sum(len(case.tasks) + len(case.judged) for case in cases)
            weights.append(work)
        assert {*trials.values(), *merges.values()} == {1}
        assert len(merges) == sum(
            len(config.cases(config.groups(variant)[group])[group]) for variant, group in batch.merges
        )
        assert 1 <= len(shares) <= min(shards, len(trials) + len(merges))
        most = 2 * max(len(config.tasks), 2)
        assert max(weights) - min(weights) <= 2 * most or len(shares) == 1


def test_one_process_shares_with_none() -> None:
    config = configuration.load(CONFIGS[0].parent / "demo.yaml")
    assert not any(batch.shares(config) for batch in batches(config).values())
