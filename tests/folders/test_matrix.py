"""Architectures in the forms in which they are stored: a merge is that of what `from_pretrained` loads."""

import itertools
import re
import shutil
from copy import deepcopy

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from remerge.folders.standalone import merge_folders

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SIZES, "vocab_size": 40, "max_position_embeddings": 20}
GROUPED = {**TEXT, "num_key_value_heads": 1}
PIXELS = {**SIZES, "image_size": 8, "patch_size": 4}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 40}
T5 |= {"decoder_start_token_id": 0}
DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
}
WHISPER = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
WHISPER |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_mel_bins": 4}
WHISPER |= {"vocab_size": 40, "max_source_positions": 10, "max_target_positions": 12, "suppress_tokens": None}
WHISPER |= {"decoder_start_token_id": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CLIP = {
    "text_config": {**TEXT, "bos_token_id": 0, "eos_token_id": 39, "pad_token_id": 1},
    "vision_config": PIXELS,
    "projection_dim": 12,
}
MOE = {"num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}

ARCHITECTURES = {
    "BERT, masked words": ("BertForMaskedLM", "BertConfig", TEXT),
    "BERT": ("BertForSequenceClassification", "BertConfig", TEXT | {"num_labels": 3}),
    "RoBERTa": ("RobertaForSequenceClassification", "RobertaConfig", TEXT | {"num_labels": 3}),
    "DeBERTa-v2": ("DebertaV2ForSequenceClassification", "DebertaV2Config", TEXT | DEBERTA),
    "DeBERTa-v2, masked words": ("DebertaV2ForMaskedLM", "DebertaV2Config", TEXT | DEBERTA),
    "T5": ("T5ForConditionalGeneration", "T5Config", T5),
    "T5, a classifier": (
        "T5ForSequenceClassification",
        "T5Config",
        T5 | {"num_labels": 3, "eos_token_id": 5},
    ),
    "mT5": ("MT5ForConditionalGeneration", "MT5Config", T5),
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40}),
    "GPT-NeoX": ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT),
    "Llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "Llama, tied": ("LlamaForCausalLM", "LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "Llama, a classifier": ("LlamaForSequenceClassification", "LlamaConfig", GROUPED | {"pad_token_id": 0}),
    "Mistral": ("MistralForCausalLM", "MistralConfig", GROUPED),
    "Qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED | {"tie_word_embeddings": True}),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 8, "tie_word_embeddings": True}),
    "Gemma": ("GemmaForCausalLM", "GemmaConfig", GROUPED | {"head_dim": 8}),
    "Phi": ("PhiForCausalLM", "PhiConfig", TEXT),
    "Mixtral": ("MixtralForCausalLM", "MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "Qwen2-MoE": ("Qwen2MoeForCausalLM", "Qwen2MoeConfig", GROUPED | MOE),
    "CLIP": ("CLIPModel", "CLIPConfig", CLIP),
    "CLIP's eye": ("CLIPVisionModel", "CLIPVisionConfig", PIXELS),
    "ViT": ("ViTForImageClassification", "ViTConfig", PIXELS | {"num_labels": 3}),
    "Whisper": ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER),
}

TIED = ("BERT, masked words", "DeBERTa-v2, masked words", "T5", "T5, a classifier", "mT5", "GPT-2")
TIED += ("Llama, tied", "Qwen2", "Qwen3", "Gemma", "Whisper")

BODIES = {
    "BERT, masked words": "BertModel",
    "BERT": "BertModel",
    "RoBERTa": "RobertaModel",
    "DeBERTa-v2": "DebertaV2Model",
    "T5, a classifier": "T5Model",
    "GPT-2": "GPT2Model",
    "GPT-NeoX": "GPTNeoXModel",
    "Llama": "LlamaModel",
    "Llama, a classifier": "LlamaModel",
    "Mistral": "MistralModel",
    "Qwen2": "Qwen2Model",
    "Qwen3": "Qwen3Model",
    "Gemma": "GemmaModel",
    "Phi": "PhiModel",
    "Mixtral": "MixtralModel",
    "Qwen2-MoE": "Qwen2MoeModel",
    "ViT": "ViTModel",
    "Whisper": "WhisperModel",
}

OLD = {
    "BERT": [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
    "GPT-2": [(r"^transformer\.", "")],
    "GPT-NeoX": [(r"^embed_out\.", "embed_out.")],
}
"""Names that the hub's own checkpoints have, beyond what `save_pretrained` writes back."""

LEFTOVER = {
    "BERT": {"bert.embeddings.position_ids": torch.arange(20)[None]},
    "GPT-2": {"h.0.attn.bias": torch.ones(1, 1, 20, 20)},
    "GPT-NeoX": {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 20, 20)},
}
"""Buffers that lie in them, and that transformers no longer keeps."""

CASES = [(a, f) for a, f in itertools.product(ARCHITECTURES, ("one file", "shards", "half precision"))]
CASES += [(a, "ties stored") for a in TIED] + [(a, "names of old") for a in OLD]
# These untie their head by what lies in the files, whatever config.json says.
CASES += [("mT5", "a head of its own"), ("T5", "a head of its own")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The base and two experts of each architecture, made once."""
    made = {}

    def make(architecture):
        if architecture not in made:
            auto, config, settings = ARCHITECTURES[architecture]
            torch.manual_seed(len(made))
            base = getattr(hf, auto)(getattr(hf, config)(**settings)).eval()
            made[architecture] = {"base": moved(base, 0.3)} | {e: moved(base, 0.1) for e in ("one", "two")}
        return made[architecture]

    return make


def moved(model, by):
    model = deepcopy(model)
    for parameter in model.parameters():
        parameter.data = parameter.data + by * torch.randn(parameter.shape)
    return model


def store(model, folder, form, architecture, large):
    """A model in a form, of which the shards are cut elsewhere in each folder."""
    model = model.to(torch.bfloat16) if form == "half precision" else model
    model.save_pretrained(folder, max_shard_size=f"{8 + large}KB" if form == "shards" else "1GB")
    file = folder / "model.safetensors"
    if form == "shards":
        assert (folder / "model.safetensors.index.json").exists() and not file.exists()
    if form == "ties stored":
        tensors = load_file(file)
        tied = {n: model.state_dict()[n] for n in model.all_tied_weights_keys}
        assert tied and not tensors.keys() >= tied.keys()
        save_file({**tensors, **{n: t.clone() for n, t in tied.items()}}, file, {"format": "pt"})
    if form == "a head of its own":
        tensors = load_file(file)
        tensors["lm_head.weight"] = tensors["shared.weight"] + torch.randn(tensors["shared.weight"].shape)
        save_file(tensors, file, {"format": "pt"})
    if form == "names of old":
        tensors = load_file(file)
        for pattern, former in OLD[architecture]:
            assert any(re.search(pattern, name) for name in tensors)
            tensors = {re.sub(pattern, former, name): t for name, t in tensors.items()}
        save_file({**tensors, **LEFTOVER[architecture]}, file, {"format": "pt"})


def read(auto, folder):
    """What `from_pretrained` makes of a folder, of which it must not draw a tensor."""
    model, info = getattr(hf, auto).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    return model.eval()


def mean(models):
    whole = deepcopy(models[0])
    states = [dict(model.named_parameters(remove_duplicate=False)) for model in models]
    for name, parameter in whole.named_parameters():
        parameter.data = sum(state[name].data for state in states) / len(states)
    return whole


@torch.no_grad()
def answer(model):
    """Logits, or what else a model says first, of fixed inputs."""
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(3, 38, (2, 6), generator=generator)
    ids[:, -1] = getattr(model.config, "eos_token_id", None) or 39
    pixels = torch.randn(2, 3, 8, 8, generator=generator)
    kind = model.config.model_type
    if kind == "clip":
        return model(input_ids=ids, pixel_values=pixels).logits_per_image
    if kind in ("vit", "clip_vision_model"):
        return model(pixel_values=pixels)[0]
    if kind == "whisper":
        sound = torch.randn(2, 4, 20, generator=generator)
        return model(input_features=sound, decoder_input_ids=ids)[0]
    more = (
        {"decoder_input_ids": ids}
        if kind in ("t5", "mt5") and "Classification" not in type(model).__name__
        else {}
    )
    return model(input_ids=ids.clamp(max=39), **more)[0]


def agree(found, expected):
    found, expected = answer(found), answer(expected)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("architecture", "form"), CASES)
def test_a_merge_is_that_of_the_models_in_memory(tmp_path, models, architecture, form):
    auto = ARCHITECTURES[architecture][0]
    for large, (name, model) in enumerate(models(architecture).items()):
        # What the base stores is not what every expert must: the second is stored as today.
        as_today = name == "two" and form in ("ties stored", "names of old", "a head of its own")
        store(deepcopy(model), tmp_path / name, "one file" if as_today else form, architecture, large)
    base, one, two = (str(tmp_path / name) for name in ("base", "one", "two"))
    experts = [read(auto, folder) for folder in (one, two)]
    merge_folders("average", base, [one, two], tmp_path / "both", dtype="float32")
    agree(read(auto, tmp_path / "both"), mean(experts))
    merge_folders("task_arithmetic", base, [one], tmp_path / "single", ["scale=1.0"], dtype="float32")
    agree(read(auto, tmp_path / "single"), experts[0])


@pytest.mark.parametrize("architecture", list(BODIES))
def test_a_body_is_the_base_of_experts_with_heads(tmp_path, models, architecture):
    auto, body = ARCHITECTURES[architecture][0], BODIES[architecture]
    made = models(architecture)
    for name in ("one", "two"):
        made[name].save_pretrained(tmp_path / name)
    made["base"].save_pretrained(tmp_path / "whole")
    getattr(hf, body).from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "base")
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    merge_folders("average", str(tmp_path / "base"), [one, two], tmp_path / "both")
    experts = [read(auto, folder) for folder in (one, two)]
    found = getattr(hf, body).from_pretrained(tmp_path / "both").eval()
    whole = mean(experts)
    agree(found, getattr(whole, whole.base_model_prefix))
    assert not [name for name in load_file(tmp_path / "both/model.safetensors") if "head" in name]
    for name in ("one", "two"):
        again = deepcopy(whole)
        heads = tmp_path / f"both/heads/{name}.safetensors"
        if heads.exists():
            again.load_state_dict(load_file(heads), strict=False)
        own = set(dict(again.named_parameters())) - {
            n for n, _ in again.named_parameters() if n.startswith(f"{again.base_model_prefix}.")
        }
        trained = dict(experts[0 if name == "one" else 1].named_parameters())
        for parameter in own:
            assert torch.equal(again.get_parameter(parameter), trained[parameter])


@pytest.mark.parametrize("architecture", [a for a in BODIES if a != "BERT, masked words"])
def test_a_base_with_a_head_takes_experts_without(tmp_path, models, architecture):
    auto, body = ARCHITECTURES[architecture][0], BODIES[architecture]
    made = models(architecture)
    made["base"].save_pretrained(tmp_path / "base")
    for name in ("one", "two"):
        made[name].save_pretrained(tmp_path / "whole")
        getattr(hf, body).from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / name)
        shutil.rmtree(tmp_path / "whole")
    folders = [str(tmp_path / name) for name in ("base", "one", "two")]
    merge_folders("average", folders[0], folders[1:], tmp_path / "both")
    expected = mean([made["one"], made["two"]])
    start = dict(made["base"].named_parameters())
    for name, parameter in expected.named_parameters():
        if not name.startswith(f"{expected.base_model_prefix}."):
            parameter.data = start[name].data.clone()
    agree(read(auto, tmp_path / "both"), expected)
