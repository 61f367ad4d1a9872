"""The logits at the judged positions are those of the model's own forward pass, whatever its head makes."""

from io import BytesIO

import pytest
import torch
from PIL import Image
from torch.nn.functional import linear
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    CohereConfig,
    CohereForCausalLM,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from remerge.families import Batch, Head, family
from remerge.families._text import Text

CPU = torch.device("cpu")
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}
SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, **HEADS}
WORDS = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT_SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
MAMBA_SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}
DECODERS = {
    "bert": (BertLMHeadModel, BertConfig(**BERT_SHAPE, **WORDS, is_decoder=True)),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SHAPE, **WORDS, head_dim=8, final_logit_softcapping=0.5)),
    "cohere": (CohereForCausalLM, CohereConfig(**SHAPE, **WORDS, logit_scale=0.0625)),
    "granite": (GraniteForCausalLM, GraniteConfig(**SHAPE, **WORDS, logits_scaling=8.0)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(n_embd=16, n_layer=2, n_head=2, **WORDS)),
    "llama4": (
        Llama4ForCausalLM,
        Llama4TextConfig(**SHAPE, **WORDS, head_dim=8, intermediate_size_mlp=24, num_local_experts=2),
    ),
    "mamba": (MambaForCausalLM, MambaConfig(**MAMBA_SHAPE, **WORDS)),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**SHAPE, **WORDS, num_local_experts=3)),
    "modernbert": (
        ModernBertDecoderForCausalLM,
        ModernBertDecoderConfig(**BERT_SHAPE, **WORDS, cls_token_id=1, sep_token_id=2),
    ),
    "phi": (PhiForCausalLM, PhiConfig(**SHAPE, **WORDS)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHAPE, **WORDS, tie_word_embeddings=True)),
}
START = {"decoder_start_token_id": 0, **WORDS}
T5_SHAPE = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
BART_SHAPE = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24}
BART_HEADS = {"decoder_ffn_dim": 24, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
BERT = {**BERT_SHAPE, **WORDS, "model_type": "bert"}
ENCODER_DECODERS = {
    "bert twice": (
        EncoderDecoderModel,
        EncoderDecoderConfig(
            encoder=BERT,
            decoder=BERT | {"is_decoder": True, "add_cross_attention": True},
            tie_word_embeddings=False,
            **START,
        ),
    ),
    "bart": (BartForConditionalGeneration, BartConfig(**BART_SHAPE, **BART_HEADS, **START)),
    "switch": (
        SwitchTransformersForConditionalGeneration,
        SwitchTransformersConfig(**T5_SHAPE, **START, num_experts=3, num_sparse_encoder_layers=1),
    ),
    "t5": (T5ForConditionalGeneration, T5Config(**T5_SHAPE, **START, tie_word_embeddings=True)),
    "t5 untied": (T5ForConditionalGeneration, T5Config(**T5_SHAPE, **START, tie_word_embeddings=False)),
}


def made(kind, config):
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return model


def of_a_batch(model, inputs):
    rows, columns = torch.tensor([[0, 0, 1], [1, 3, 2]])
    batch = Batch(inputs, (rows, columns), torch.zeros(3), rows, ["a", "b"])
    found = Text.logits(object.__new__(Text), model, batch)
    expected = model(**inputs).logits[rows, columns]
    assert found.shape == (3, 40)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        head, states = model.get_output_embeddings(), Text.states(object.__new__(Text), model, batch)
        said = Text.said(object.__new__(Text), model, linear(states, head.weight, head.bias))
    assert torch.allclose(said, found, atol=1e-5)
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoders_logits(name):
    ids = torch.randint(3, 40, (2, 4), generator=torch.Generator().manual_seed(1))
    found = of_a_batch(made(*DECODERS[name]), {"input_ids": ids})
    if name == "gemma2":
        assert float(found.detach().abs().max()) <= 0.5


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_encoder_decoders_logits(name):
    draw = torch.Generator().manual_seed(1)
    ids, answers = (torch.randint(3, 40, (2, length), generator=draw) for length in (6, 4))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": answers}
    of_a_batch(made(*ENCODER_DECODERS[name]), inputs)


@pytest.mark.parametrize("kind", ["causal_lm", "seq2seq"])
def test_words_are_judged_by_logits_that_are_not_rounded(kind, bases):
    """A model in half precision would find several words equally likely, and the first of them best."""
    base = bases["t5" if kind == "seq2seq" else "llama"]
    found = family(kind, base)
    model = found.load(base, torch.bfloat16, CPU)
    batch = found.collate(found.examples("", [("the dog sleeps :", "a cat"), ("a :", "dog")]), CPU)
    weight = model.get_output_embeddings().weight.float()
    for learns in (False, True):
        with torch.set_grad_enabled(learns):
            logits, states = found.logits(model, batch), found.states(model, batch)
        assert logits.requires_grad == learns and states.dtype == torch.bfloat16
        assert torch.allclose(logits, linear(states.float(), weight), atol=1e-5)
        assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("kind", ["classifier", "image_classifier"])
def test_classes_are_judged_by_logits_that_are_not_rounded(kind, bases):
    base = bases["vit" if kind == "image_classifier" else "llama"]
    found = family(kind, base)
    model = found.load(base, torch.bfloat16, CPU)
    found.equip(model, {task: Head(None, ["no", "yes"]) for task in ("a", "b")})
    image = BytesIO()
    Image.new("RGB", (8, 8), "red").save(image, "PNG")
    inputs = image.getvalue() if kind == "image_classifier" else "the dog sleeps"
    batch = found.collate(found.examples("a", [(inputs, 0)]) + found.examples("b", [(inputs, 1)]), CPU)
    with torch.no_grad():
        logits = found.logits(model, batch)
    assert not torch.equal(logits, logits.bfloat16().float())
