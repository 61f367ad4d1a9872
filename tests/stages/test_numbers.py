"""Weights and losses that are no numbers are refused where they appear."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from remerge.config import Finetune
from remerge.errors import Diverged, UserError
from remerge.finetune import finetune
from remerge.stages import experts
from remerge.stages._workspace import Workspace


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_expert_with_one_weight_that_is_no_number_is_refused(existing, value):
    config = existing({"cola": ASKED, "sst2": ASKED}, "average")
    (file,) = Workspace(config).path("sst2").glob("*model.safetensors")
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name].view(-1)[3] = value
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"sst2.*NaN or infinity"):
        experts.run(config, "sst2")


def test_fine_tuning_stops_at_the_step_whose_loss_is_no_number(family, model, examples, tmp_path):
    recipe = Finetune(steps=40, batch_size=4, warmup=0).model_copy(update={"learning_rate": 1e30})
    with pytest.raises(Diverged, match=r"step [2-9]: .*lower finetune.learning_rate"):
        finetune(family, model, examples("cola", 32), [], recipe, 0, tmp_path)


def test_fine_tuning_refuses_weights_that_are_no_numbers(family, model, examples, tmp_path):
    with torch.no_grad():
        theta = model.get_input_embeddings().weight
        theta[-1] = float("nan")  # a row of a token that no example has
    recipe = Finetune(learning_rate=1e-3, steps=1, batch_size=4, warmup=0)
    with pytest.raises(Diverged, match="step 1: "):
        finetune(family, model, examples("cola", 8), [], recipe, 0, tmp_path)


ASKED = {"prompt": "grammar : {sentence} answer :", "answers": ["unacceptable", "acceptable"]}
