"""Adapters that change a weight in proportion to the base's own."""

import pytest
import torch
from peft import IA3Config, get_peft_model
from projects import asked
from transformers import AutoModelForCausalLM

from remerge.methods import find
from remerge.stages._bench import Bench


def ia3(generator, task):
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained("base"),
        IA3Config(
            target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
        ),
    )
    for name, theta in model.named_parameters():
        if "ia3_" in name:
            theta.data = 1 + 0.5 * torch.randn(theta.shape, generator=generator)
    model.save_pretrained(task)


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
