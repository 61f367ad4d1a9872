"""`remerge.merge` of models in memory: what it makes is what the folders make, and what is given stays."""

from pathlib import Path

import pytest
import torch
from loading import close
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

import remerge
from remerge.checkpoints.models import state_of
from remerge.errors import UserError
from remerge.folders.standalone import merge_folders

PAIR = ["cola", "mnli"]
pytestmark = pytest.mark.usefixtures("folder", "expert_folders")


def load(folder, auto=AutoModelForCausalLM, **settings):
    return auto.from_pretrained(folder, **settings)


def adapter(seed, folder="model", auto=AutoModelForCausalLM, **settings):
    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 2, "target_modules": ["q_proj"], "init_lora_weights": False, **settings})
    return get_peft_model(load(folder, auto), config)


@pytest.mark.parametrize(
    ("method", "params"), [("ties", {"density": 0.3}), ("slerp", {}), ("dare", {"seed": 3})]
)
def test_models_as_state_dicts(here, base, expert_folders, method, params):
    given = load("model")
    experts = {task: load(task) for task in PAIR}
    made = remerge.merge(method, given, experts, **params)
    close(state_of(made), remerge.merge(method, base, {t: expert_folders[t] for t in PAIR}, **params))
    close(state_of(given), base, error=0)
    assert type(made) is type(given) and not made.training
    assert made.lm_head.weight is made.model.embed_tokens.weight  # tied as the base is
    made.save_pretrained("out")
    close(state_of(load("out")), state_of(made), error=0)


def test_a_list_of_experts_is_numbered(here, base, expert_folders):
    made = remerge.merge("dare", load("model"), [load(task) for task in PAIR], seed=1)
    close(state_of(made), remerge.merge("dare", base, [expert_folders[t] for t in PAIR], seed=1))


def test_adapters_beside_models(here, base, expert_folders):
    lora = adapter(1)
    made = remerge.merge("task_arithmetic", load("model"), {"a": lora, "cola": load("cola")}, scale=0.5)
    whole = {name: tensor.clone() for name, tensor in state_of(lora.merge_and_unload()).items()}
    expected = remerge.merge("task_arithmetic", base, {"a": whole, "cola": expert_folders["cola"]}, scale=0.5)
    close(state_of(made), expected, 1e-5)


def test_depth_is_that_of_the_model_where_adapters_change_only_some_layers(here, base):
    lora = adapter(1, layers_to_transform=[1])
    made = remerge.merge("lines", load("model"), [lora], beta=0.25)
    whole = {name: tensor.clone() for name, tensor in state_of(lora.merge_and_unload()).items()}
    close(state_of(made), remerge.merge("lines", base, [whole], beta=0.25), 1e-5)


def test_the_adapter_that_is_active(here):
    for seed, name in enumerate(("first", "second")):
        adapter(seed).save_pretrained(name)
    both = PeftModel.from_pretrained(load("model"), "first", adapter_name="first")
    both.load_adapter("second", adapter_name="second")
    both.set_adapter("second")
    made = remerge.merge("average", load("model"), [both])
    alone = PeftModel.from_pretrained(load("model"), "second").merge_and_unload()
    close(state_of(made), state_of(alone), 1e-5)


def both_active():
    model = adapter(1)
    model.add_adapter("second", LoraConfig(r=3, target_modules=["v_proj"]))
    model.base_model.set_adapter(["default", "second"])
    return model


def disabled():
    model = adapter(1)
    model.base_model.disable_adapter_layers()
    return model


def scaled(by, **settings):
    model = adapter(1, **settings)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.scale_layer(by)
    return model


def of_several_kinds():
    """PEFT cannot save an adapter beside one with tokens of its own."""
    model = adapter(1, trainable_token_indices=[3])
    model.add_adapter("second", LoraConfig(r=3, target_modules=["v_proj"]))
    model.set_adapter("second")
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (both_active, r"expert a: several adapters are active \(default, second\): give each as"),
        (disabled, "expert a: its adapter is disabled: enable it"),
        (
            lambda: scaled(0.5),
            r"expert a: its adapter is scaled in model\.layers\.0\.self_attn\.q_proj, which",
        ),
        (lambda: scaled(0.5, use_rslora=True), "expert a: its adapter is scaled"),
        (of_several_kinds, "expert a: PEFT cannot save its adapter second"),
        (lambda: adapter(1, init_lora_weights="pissa"), r"^expert a: init_lora_weights is 'pissa'"),
    ],
)
def test_an_adapter_that_is_not_what_peft_saves(here, make, words):
    with pytest.raises(UserError, match=words):
        remerge.merge("average", load("model"), {"a": make()})


@pytest.mark.parametrize(
    "settings", [{"use_rslora": True}, {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"q_proj": 7}}]
)
def test_adapters_scaled_by_their_own_settings(here, settings):
    lora = scaled(1.0, **settings)
    made = remerge.merge("average", load("model"), [lora])
    close(state_of(made), state_of(lora.merge_and_unload()), 1e-5)


def test_heads_and_bodies(here, base, expert_folders, capsys):
    torch.manual_seed(0)
    headed = [load(task, AutoModelForSequenceClassification, num_labels=3) for task in PAIR]
    made = remerge.merge("average", load("model"), headed)
    close(state_of(made), remerge.merge("average", base, [expert_folders[t] for t in PAIR]))
    assert "score: only in 0: not merged" in capsys.readouterr().err
    body = remerge.merge("average", load("model", AutoModel), [load(task) for task in PAIR])
    expected = remerge.merge("average", base, [expert_folders[t] for t in PAIR])
    close(state_of(body), {name.removeprefix("model."): tensor for name, tensor in expected.items()})


def test_buffers_as_in_folders(here):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    models = []
    for seed, name in enumerate(("plain", "first", "second")):
        torch.manual_seed(seed)
        model = ResNetForImageClassification(config)
        for buffer in model.buffers():
            buffer.copy_(torch.rand(buffer.shape) if buffer.is_floating_point() else buffer + seed)
        model.save_pretrained(name)
        models.append(model)
    made = remerge.merge("average", models[0], {"first": models[1], "second": models[2]})
    merge_folders("average", "plain", ["first", "second"], Path("out"))
    close(made.state_dict(), load("out", ResNetForImageClassification).state_dict())
    means = [model.resnet.embedder.embedder.normalization.running_mean for model in (made, *models[1:])]
    torch.testing.assert_close(means[0], (means[1] + means[2]) / 2)


def test_half_precision_stays(here):
    made = remerge.merge("average", load("model", dtype=torch.bfloat16), [load(task) for task in PAIR])
    assert made.dtype == torch.bfloat16


def test_wrong_models(here):
    given = load("model")
    wrong = [
        (lambda: remerge.merge("ties", given, [{}]), "expert 0 is a dict: give a transformers or PEFT model"),
        (lambda: remerge.merge("ties", adapter(1), [load("cola")]), "the base is a PeftModel: give a"),
        (lambda: remerge.merge("ties", "./model", [load("cola")]), "the base is a str: give a"),
        (lambda: remerge.merge("ties", given, load("cola")), "experts are a Qwen2ForCausalLM: give a list"),
        (lambda: remerge.merge("divmerge", given, [load("cola")]), "divmerge needs inputs"),
        (lambda: remerge.merge("fisher", given, [load("cola")]), "needs statistics"),
        (lambda: remerge.merge("ties", given, [load("cola")], densty=1), "the nearest known is density"),
        (
            lambda: remerge.merge("ties", given, [adapter(1, use_bdlora=None, alora_invocation_tokens=[1])]),
            "alora",
        ),
    ]
    for call, words in wrong:
        with pytest.raises(UserError, match=words):
            call()
    used = load("model")
    get_peft_model(used, LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(UserError, match="load it again"):
        remerge.merge("ties", used, [load("cola")])
