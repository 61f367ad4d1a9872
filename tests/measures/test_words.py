"""Distributions made of states by an expert's head, against the expert's own, for every kind of head."""

from pathlib import Path

import pytest
import torch
import transformers

from remerge.checkpoints.models import held, state_of
from remerge.checkpoints.reading import read_checkpoint
from remerge.deltas import LowRank
from remerge.families import Example
from remerge.families.causal_lm import CausalLM
from remerge.families.seq2seq import Seq2Seq
from remerge.measures.references import make_reference, side_by_side
from remerge.measures.words import WordHead, said_exactly, word_head

V, H = 50, 16
DECODER = {
    "vocab_size": V,
    "hidden_size": H,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
T5 = {"vocab_size": V, "d_model": H, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
T5 |= {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
BART = {"vocab_size": V, "d_model": H, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
BART |= {
    f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 20))
}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "forced_eos_token_id": None}

MODELS = {
    "tied": ("Qwen2", {**DECODER, "tie_word_embeddings": True}),
    "untied": ("Qwen2", {**DECODER, "tie_word_embeddings": False}),
    "capped": ("Gemma2", {**DECODER, "head_dim": 8, "final_logit_softcapping": 3.0}),
    "scaled": ("Cohere", DECODER),
    "with a bias": ("Phi", DECODER),
    "of a mixture of experts": ("Mixtral", {**DECODER, "num_local_experts": 2, "tie_word_embeddings": True}),
    "of a state-space model": ("Mamba", {**DECODER, "state_size": 4}),
    "called decoder": ("ModernBertDecoder", {**DECODER, "bos_token_id": 2}),
    "behind a transformation": ("Electra", {**DECODER, "is_decoder": True, "embedding_size": H}),
    "seq2seq, tied": ("T5", T5),
    "seq2seq, untied": ("T5", {**T5, "tie_word_embeddings": False}),
    "seq2seq, with a bias": ("Bart", BART),
    "seq2seq, of a mixture": (
        "SwitchTransformers",
        {**T5, "num_decoder_layers": 2, "num_experts": 2},
    ),
}


class Tokens:
    """A family without a tokenizer: examples are made of tokens."""

    fill, eos, start, limit = 0, 1, 0, 10**6

    def __init__(self) -> None:
        """Nothing to load."""


class Decoder(Tokens, CausalLM):
    pass


class EncoderDecoder(Tokens, Seq2Seq):
    pass


def made(name: str):
    """A family and one of its models, of random weights."""
    torch.manual_seed(0)
    kind, given = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**given)
    seq2seq = config.is_encoder_decoder
    model = getattr(transformers, f"{kind}For{'ConditionalGeneration' if seq2seq else 'CausalLM'}")(config)
    if name == "seq2seq, untied":
        model.lm_head.weight = torch.nn.Parameter(torch.empty(V, H))
    for parameter in model.parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape)
    if kind == "Bart":
        model.final_logits_bias.normal_()
    return (EncoderDecoder() if seq2seq else Decoder()), model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_head_makes_of_states_what_the_expert_says(name: str, tmp_path: Path) -> None:
    """By another model's forward pass, as in learning, and by a head read from the expert's files."""
    family, expert = made(name)
    device, inputs = torch.device("cpu"), [Example([3, 4, 5, 6], [7, 1]), Example([9, 10], [1])]
    expert.save_pretrained(tmp_path)
    stored = read_checkpoint(tmp_path, held(expert).model)
    assert stored.head == held(expert).head
    assert ("lm_head.weight" in stored.head) == (name in ("untied", "with a bias", "seq2seq, untied"))
    head = word_head(stored.head, lambda tensor: (stored.tensors[tensor], None))
    reference = make_reference(family, expert, inputs, 2, head)
    batch = family.collate(reference.examples, device)
    with torch.no_grad():
        expected = family.logits(expert, batch).log_softmax(-1)
        for parameter in expert.parameters():
            parameter.zero_()
        found = side_by_side(family, expert, [(reference, [0, 1])])
        assert torch.allclose(found, expected, atol=1e-5)
        assert expected.std() > 0.02
        # Nothing of it stays behind: the model computes again.
        assert not torch.allclose(family.logits(expert, batch).log_softmax(-1), expected, atol=1e-2)
    assert "forward" not in vars(expert.get_decoder()) and "forward" not in vars(
        expert.get_output_embeddings()
    )


@pytest.mark.parametrize("low_rank", [True, False])
def test_a_head_is_its_parts_together(low_rank: bool) -> None:
    torch.manual_seed(0)
    words = 40_000  # more than a piece
    theta, states = torch.randn(words, H).bfloat16(), torch.randn(3, H)
    tau = LowRank(torch.randn(words, 2), torch.randn(2, H), 0.5) if low_rank else torch.randn(words, H)
    bias = torch.randn(words)
    weight = theta.double() + (tau.dense() if isinstance(tau, LowRank) else tau)
    found = WordHead((theta, tau), bias)(states)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), states.double() @ weight.T + bias, atol=1e-4)


@pytest.mark.parametrize("learns", [True, False])
def test_a_head_in_half_precision_has_the_gradients_of_float32(learns: bool) -> None:
    torch.manual_seed(0)
    words = 40_000  # more than a piece
    weight, states = torch.randn(words, H).bfloat16(), torch.randn(2, 3, H).bfloat16()
    bias, towards = torch.randn(words).bfloat16(), torch.randn(2, 3, words)
    weight.requires_grad_(learns)
    states.requires_grad_()
    found = said_exactly(states, weight, bias)
    expected = torch.nn.functional.linear(states.float(), weight.float(), bias.float())
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-5)
    asked = [states, weight] if learns else [states]
    ours, theirs = (torch.autograd.grad((made * towards).sum(), asked) for made in (found, expected))
    for gradient, exact in zip(ours, theirs, strict=True):
        assert gradient.dtype == torch.bfloat16 and torch.allclose(gradient.float(), exact.float(), rtol=1e-2)


def test_a_head_of_named_tensors_adds_its_bias_up() -> None:
    _, model = made("with a bias")
    base = state_of(model)
    tau = {name: torch.randn_like(theta) for name, theta in base.items()}
    found = word_head(held(model).head, lambda name: (base[name], tau[name]))
    assert torch.equal(found.bias, base["lm_head.bias"] + tau["lm_head.bias"])
    assert found.weight == (base["lm_head.weight"], tau["lm_head.weight"])
