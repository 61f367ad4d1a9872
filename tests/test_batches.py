"""Every choice and merge is made by exactly one process, however they are dealt out."""

from collections import Counter
from pathlib import Path

import pytest

from remerge import config as configuration
from remerge.batches import batches

CONFIGS = sorted((Path(__file__).parent.parent / "config").glob("*.yaml"))


@pytest.mark.parametrize("how", ["methods", "sizes"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_choice_and_each_merge_is_made_once(path: Path, how: str) -> None:
    config = configuration.load(path).model_copy(update={"batches": how})
    dealt = list(batches(config).values())
    made = Counter((variant.name, group) for batch in dealt for variant, group in batch.merges)
    assert made == {(v.name, group): 1 for v in config.merge.variants for group in config.groups(v)}
    chosen = Counter((variant.name, plan) for batch in dealt for plan, variant in batch.choices)
    assert chosen == {(v.name, plan): 1 for v in config.merge.variants for plan in config.chosen_for(v)}
    for batch in dealt:
        assert {v.method for _, v in batch.choices} | {v.method for v, _ in batch.merges} == {batch.method}
        learned = {v.name for v, _ in batch.merges if config.is_learned(v)}
        assert len(learned) <= 1
        assert how == "methods" or len(batch.choices) + len(batch.merges) == 1
