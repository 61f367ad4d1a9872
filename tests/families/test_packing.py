"""Decoders that are given inputs one after the other in a row answer as if each stood by itself."""

import pytest
import torch
import transformers as hf

from remerge.families import Example
from remerge.families.causal_lm import CausalLM

TEXT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
WIDE = {**TEXT, "intermediate_size": 24, "num_key_value_heads": 1}
EXAMPLES = [Example([3, 4, 5], [6, 2]), Example([7], [8, 9, 2]), Example(list(range(10, 30)), [2])]


class Tokens(CausalLM):
    fill = 0

    def __init__(self):
        """Nothing to load."""


def made(kind, config, **settings):
    torch.manual_seed(0)
    model = getattr(hf, kind)(getattr(hf, config)(**settings)).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize(
    ("kind", "config", "settings"),
    [
        ("LlamaForCausalLM", "LlamaConfig", WIDE),
        ("Qwen2ForCausalLM", "Qwen2Config", WIDE),
        ("Qwen3ForCausalLM", "Qwen3Config", WIDE | {"head_dim": 8}),
        ("MistralForCausalLM", "MistralConfig", WIDE | {"sliding_window": 4}),
        ("GemmaForCausalLM", "GemmaConfig", WIDE | {"head_dim": 8}),
        ("PhiForCausalLM", "PhiConfig", WIDE),
        ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT | {"intermediate_size": 24}),
        ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40}),
    ],
)
def test_packed_inputs_are_answered_as_padded_ones(kind, config, settings):
    model, family, device = made(kind, config, **settings), Tokens(), torch.device("cpu")
    assert family.packing(model, EXAMPLES) == family.pack
    batch, packed = family.collate(EXAMPLES, device), family.pack(EXAMPLES, device)
    assert packed.inputs["input_ids"].shape == (1, sum(e.length - 1 for e in EXAMPLES))
    expected, found = family.logits(model, batch), family.logits(model, packed)
    assert expected.shape == (6, 40) and expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert torch.equal(packed.targets, batch.targets) and torch.equal(packed.example, batch.example)


@pytest.mark.parametrize(
    ("kind", "config", "settings"),
    [
        ("BloomForCausalLM", "BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40}),
        ("MambaForCausalLM", "MambaConfig", {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 40}),
        ("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", WIDE | {"head_dim": 8, "lru_width": 16}),
    ],
)
def test_models_that_would_mix_packed_inputs_are_given_padded_ones(kind, config, settings):
    model, family = made(kind, config, **settings), Tokens()
    assert family.packing(model, EXAMPLES) == family.collate
