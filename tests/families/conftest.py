"""Minuscule models of every family over the miniature words, as `save_pretrained` folders."""

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from remerge.miniature.clip import tokenizer as make_clip_tokenizer
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

SHARED = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama(words):
    return LlamaForCausalLM(
        LlamaConfig(**SHARED, **ids(words), num_key_value_heads=1, initializer_range=0.3, bos_token_id=None)
    )


def t5(words):
    config = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    start = {"decoder_start_token_id": words.pad_token_id}
    return T5ForConditionalGeneration(
        T5Config(**config, **ids(words), **start, feed_forward_proj="gated-gelu")
    )


def deberta(words):
    more = {"position_buckets": 8, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    plain = {"position_biased_input": False, "type_vocab_size": 0, "pooler_hidden_size": 16}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
    return DebertaV2ForMaskedLM(DebertaV2Config(**SHARED, **ids(words), **more, **plain, **quiet))


def clip(words):
    """Its two towers are of different widths."""
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "initializer_factor": 3.0}
    marks = {name: getattr(words, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = {
        "hidden_size": 12,
        "intermediate_size": 20,
        "max_position_embeddings": 10,
        "vocab_size": len(words),
    }
    vision = {"hidden_size": 16, "intermediate_size": 24, "image_size": 8, "patch_size": 4}
    towers = {"text_config": {**small, **text, **marks}, "vision_config": {**small, **vision}}
    return CLIPModel(CLIPConfig(**towers, projection_dim=14))


def vit():
    sizes = {"image_size": 8, "patch_size": 4, "initializer_range": 0.3}
    return ViTForImageClassification(ViTConfig(**SHARED, **sizes, num_labels=5))


def ids(words):
    return {
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
        "max_position_embeddings": 128,
    }


TURNS = "{% for turn in messages %}<{{ turn.role }}> {{ turn.content }} <end> {% endfor %}"
TEMPLATE = TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
"""A chat whose turns end with another token than a text."""


MAKERS = {"llama": llama, "t5": t5, "deberta": deberta}


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """A folder for each architecture."""
    made = {}
    for name, make in MAKERS.items():
        torch.manual_seed(0)
        words = make_tokenizer(name)
        made[name] = tmp_path_factory.mktemp(name)
        make(words).eval().save_pretrained(made[name])
        words.save_pretrained(made[name])
    torch.manual_seed(0)
    words, made["chat"] = make_tokenizer("llama"), tmp_path_factory.mktemp("chat")
    words.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>", "<end>"]})
    words.chat_template = TEMPLATE
    llama(words).eval().save_pretrained(made["chat"])
    words.save_pretrained(made["chat"])
    torch.manual_seed(0)
    words, made["clip"] = make_clip_tokenizer(), tmp_path_factory.mktemp("clip")
    clip(words).save_pretrained(made["clip"])
    words.save_pretrained(made["clip"])
    size = {"height": 8, "width": 8}
    CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=size).save_pretrained(made["clip"])
    torch.manual_seed(0)
    made["vit"] = tmp_path_factory.mktemp("vit")
    vit().eval().save_pretrained(made["vit"])
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(made["vit"])
    return made
