"""Adapters that change a weight in proportion to the base's own."""

import pytest
import torch
from peft import IA3Config
from projects import asked
from stages.trained import adapter

from remerge.methods import find
from remerge.stages._bench import Bench


def ia3(generator, task):
    config = IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    )
    adapter(config, "ia3_", generator, task, around=1.0)


@pytest.mark.parametrize("existing", [ia3], indirect=True)
def test_an_expert_is_read_against_the_base_whatever_was_merged_before(existing):
    config = existing({task: asked(task) for task in ("cola", "mnli", "sst2")}, "average")
    expected = Bench(config).deltas({"sst2": 1})
    made = Bench(config)
    made.merge(find("average"), {}, {"cola": 1, "mnli": 1})
    found = made.deltas({"sst2": 1})
    assert {*found} == {*expected} and len(found)
    for name in found:
        assert expected[name][0].abs().max() > 0.1
        torch.testing.assert_close(found[name][0], expected[name][0])
