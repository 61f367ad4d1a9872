"""Checkpoints that are not whole, not there, or not of this base."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from remerge.checkpoints.architecture import Unknown, model_of
from remerge.checkpoints.models import device_of, fingerprint, load_whole, locate, state_of
from remerge.checkpoints.stored import stored_tensors
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.families._text import tokenizer_of
from remerge.families.causal_lm import CausalLM

CPU = torch.device("cpu")


def load(folder):
    return CausalLM(folder).load(folder, torch.float32, CPU)


def test_a_folder_is_loaded_whole_and_tied_weights_once(folder, model):
    state = state_of(load(folder))
    assert "lm_head.weight" not in state
    for name, tensor in state_of(model).items():
        assert torch.equal(state[name], tensor)


def test_a_truncated_checkpoint(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="incomplete or damaged"):
        load(folder)


def test_a_missing_tensor_is_not_made_up(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is missing"):
        load(folder)


def test_a_tensor_of_another_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"up_proj\.weight"):
        load(folder)


def test_pickled_weights_are_not_read(folder, model):
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        load(folder)


def test_experts_of_another_vocabulary_or_with_nan(base, experts):
    wide = dict(experts["cola"])
    wide["model.embed_tokens.weight"] = torch.zeros(9, 16)
    with pytest.raises(UserError, match=r"expert a: .*embed_tokens"):
        Deltas(base, {"a": wide})
    broken = {k: v.clone() for k, v in experts["cola"].items()}
    broken["model.norm.weight"][3] = float("nan")
    with pytest.raises(UserError, match=r"expert a: .*norm\.weight"):
        list(Deltas(base, {"a": broken}).values())


def test_sources_that_are_not_there(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        locate(str(tmp_path / "nothing"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="neither a local folder nor available from the hub"):
        locate("somebody/nothing")


def test_the_fingerprint_follows_the_weights(folder, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(folder, twin)
    assert fingerprint(twin) == fingerprint(folder)
    tensors = load_file(twin / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, twin / "model.safetensors", {"format": "pt"})
    assert fingerprint(twin) != fingerprint(folder)


def test_devices():
    assert device_of("cpu") == CPU
    if not torch.cuda.is_available():
        assert device_of("auto") == CPU
        with pytest.raises(UserError, match="device cuda:7: not on this machine"):
            device_of("cuda:7")


def test_weights_that_lie_twice_in_a_folder_are_read_once(folder):
    expected = load_file(folder / "model.safetensors")
    save_file({"norm": torch.zeros(2)}, folder / "consolidated.safetensors")
    assert set(stored_tensors(folder)) == set(expected)


def test_a_model_s_own_code_is_not_even_offered(folder, monkeypatch):
    """Nobody is asked whether to run it: yes would be answered by a script."""
    for name, own in [("config.json", {"AutoConfig": "own.Config"}), ("tokenizer_config.json", {})]:
        given = json.loads((folder / name).read_text())
        kind = {"model_type": "own"} if own else {"tokenizer_class": "Own"}
        own = own or {"AutoTokenizer": ["own.Own", None]}
        (folder / name).write_text(json.dumps({**given, **kind, "auto_map": own}))
    (folder / "own.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    with pytest.raises(UserError, match="transformers does not know its architecture"):
        CausalLM(folder)
    with pytest.raises(UserError, match="no tokenizer"):
        tokenizer_of(folder)


@pytest.mark.parametrize(
    ("file", "odd"),
    [
        ("config.json", {"hidden_size": "32"}),
        ("config.json", {"rope_scaling": {"type": "linear"}}),
        ("tokenizer_config.json", {"eos_token": 5}),
        ("tokenizer.json", {"added_tokens": 5}),
    ],
)
def test_a_file_that_transformers_refuses_is_named(folder, file, odd):
    """It does so by errors of many kinds, some of them its own."""
    (folder / file).write_text(json.dumps({**json.loads((folder / file).read_text()), **odd}))
    with pytest.raises(UserError, match=r"refuses its config\.json|no tokenizer"):
        CausalLM(folder)
    if file == "config.json":
        with pytest.raises(Unknown, match=r"config\.json: "):
            model_of(folder)
        with pytest.raises(UserError, match="cannot be loaded"):
            load_whole(CausalLM.auto, folder, torch.float32)
