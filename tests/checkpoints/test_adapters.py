"""LoRA adapters as PEFT writes them: the deltas are what PEFT itself adds, and other adapters are refused."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from remerge.checkpoints.adapters import add_adapter, read_adapter
from remerge.checkpoints.models import state_of
from remerge.errors import UserError


def adapter(model, folder, **changes):
    """A random adapter on disk, and the merged weights as PEFT makes them."""
    settings = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj", "up_proj"], **changes}
    adapted = get_peft_model(model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    merged = adapted.merge_and_unload()
    return {name: tensor.clone() for name, tensor in state_of(merged).items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"layers.1.self_attn.q_proj": 11}, "rank_pattern": {"up_proj": 2}},
    ],
)
def test_the_deltas_are_what_peft_merges(model, base, tmp_path, changes):
    expected = adapter(model, tmp_path, **changes)
    deltas = read_adapter(tmp_path, base)
    assert len(deltas) == 4
    for name, tensor in expected.items():
        found = base[name] + (deltas[name].dense() if name in deltas else 0)
        assert torch.allclose(found, tensor, atol=1e-5), name


def test_an_adapter_is_added_to_a_model(model, base, tmp_path):
    expected = adapter(model, tmp_path)
    model.load_state_dict(base, strict=False)
    add_adapter(model, read_adapter(tmp_path, base))
    for name, tensor in state_of(model).items():
        assert torch.allclose(tensor, expected[name], atol=1e-5)


def test_wrong_adapters(model, base, tmp_path):
    adapter(model, tmp_path)
    with pytest.raises(UserError, match=r"an adapter for another base: .*q_proj\.weight .* it is missing"):
        read_adapter(tmp_path, {n: t for n, t in base.items() if "q_proj" not in n})
    with pytest.raises(UserError, match=r"another base: .*up_proj\.weight .* it is \[24, 12\]"):
        read_adapter(tmp_path, {n: t[:, :12] if "up_proj" in n else t for n, t in base.items()})
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(UserError, match="DoRA"):
        read_adapter(tmp_path, base)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file({n: t * float("nan") for n, t in tensors.items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="NaN"):
        read_adapter(tmp_path, base)
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match="not whole"):
        read_adapter(tmp_path, base)
