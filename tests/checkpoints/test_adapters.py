"""Adapters of every kind: what they make of a base is what PEFT merges, or they are refused by name."""

import itertools
import json

import pytest
import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PromptTuningConfig,
    VeraConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    CLIPVisionConfig,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

from remerge.checkpoints.adapters import add_adapter, read_adapter
from remerge.checkpoints.models import held, state_of
from remerge.deltas import LowRank
from remerge.errors import UserError

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = {"vocab_size": 40, "max_position_embeddings": 20}


def llama(auto=LlamaForCausalLM, **settings):
    torch.manual_seed(0)
    return auto(LlamaConfig(**SIZES, **WORDS, initializer_range=0.3, **settings)).eval()


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=20)).eval()


def bert(auto=BertForSequenceClassification, **settings):
    torch.manual_seed(0)
    return auto(BertConfig(**SIZES, **WORDS, initializer_range=0.3, **settings)).eval()


def moe():
    torch.manual_seed(0)
    experts = {"num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
    return Qwen2MoeForCausalLM(Qwen2MoeConfig(**SIZES, **WORDS, **experts, num_key_value_heads=1)).eval()


def vision():
    torch.manual_seed(0)
    return CLIPVisionModel(CLIPVisionConfig(**SIZES, image_size=8, patch_size=4)).eval()


def tuned(model, config, folder):
    """A random adapter on disk, and the weights as PEFT merges them after it has loaded it anew."""
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(5)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    fresh = type(model)(model.config).eval()
    fresh.load_state_dict(start)
    merged = PeftModel.from_pretrained(fresh, folder).merge_and_unload(safe_merge=True)
    return start, {name: tensor.clone() for name, tensor in state_of(merged).items()}


def lora(*targets, **settings):
    return LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": list(targets) or ["q_proj"], **settings})


KINDS = {
    "plain": (llama, lora("q_proj", "up_proj"), 4),
    "rsLoRA": (llama, lora("q_proj", "up_proj", use_rslora=True), 4),
    "patterns": (
        llama,
        lora(
            *("q_proj", "up_proj"),
            alpha_pattern={"layers.1.self_attn.q_proj": 11},
            rank_pattern={"up_proj": 2, r"^model\.layers\.0\.self_attn\.q_proj": 5},
        ),
        4,
    ),
    "all linear": (llama, LoraConfig(r=2, target_modules="all-linear"), 14),
    "some layers": (llama, lora(layers_to_transform=[1], layers_pattern="layers"), 1),
    "a regular expression": (llama, lora(target_modules=r".*\.1\.mlp\.(up|down)_proj"), 2),
    "embeddings": (llama, lora("embed_tokens", "q_proj"), 3),
    "the head": (llama, lora("lm_head", "q_proj"), 3),
    "Gaussian": (llama, lora(init_lora_weights="gaussian"), 2),
    "orthogonal": (llama, lora(r=4, init_lora_weights="orthogonal"), 2),
    "DoRA": (llama, lora("q_proj", "embed_tokens", use_dora=True), 0),
    "biases of LoRA": (lambda: llama(attention_bias=True), lora(lora_bias=True), 0),
    "all biases": (lambda: llama(attention_bias=True), lora(bias="all"), 2),
    "biases of the layers": (lambda: llama(attention_bias=True), lora(bias="lora_only"), 2),
    "a trained head": (llama, lora(modules_to_save=["lm_head"]), 2),
    "a trained norm": (llama, lora(modules_to_save=["norm", "lm_head", "embed_tokens"]), 2),
    "tokens": (llama, lora(trainable_token_indices=[3, 7]), 2),
    "tied tokens": (lambda: llama(tie_word_embeddings=True), lora(trainable_token_indices=[3, 7]), 2),
    "saved embeddings": (llama, lora("embed_tokens", "lm_head"), 2),
    "Conv1D": (gpt2, lora("c_attn", fan_in_fan_out=True), 2),
    "Conv1D, not told": (gpt2, lora("c_attn", "c_fc", "c_proj"), 8),
    "Conv1D, DoRA": (gpt2, lora("c_attn", use_dora=True, fan_in_fan_out=True), 0),
    "convolutions": (vision, lora("patch_embedding", "q_proj"), 2),
    "a classifier": (bert, lora("query", "value", task_type="SEQ_CLS"), 4),
    "a classifier, all biases": (bert, lora("query", bias="all", task_type="SEQ_CLS"), 2),
    "LoRA on the classifier": (bert, lora("query", "classifier"), 3),
    "stacked experts": (
        moe,
        lora("q_proj", target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
        2,
    ),
    "AdaLoRA": (llama, AdaLoraConfig(init_r=3, target_modules=["q_proj"], total_step=10), 0),
    "LoHa": (llama, LoHaConfig(r=3, target_modules=["q_proj"]), 0),
    "LoKr": (llama, LoKrConfig(r=3, target_modules=["q_proj"]), 0),
    "IA3": (llama, IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]), 0),
    "OFT": (llama, OFTConfig(oft_block_size=4, target_modules=["q_proj"]), 0),
    "BOFT": (llama, BOFTConfig(boft_block_size=4, target_modules=["q_proj"]), 0),
    "VeRA": (llama, VeraConfig(r=3, target_modules=["q_proj"]), 0),
    "HRA": (llama, HRAConfig(r=2, target_modules=["q_proj"]), 0),
    "norms": (llama, LNTuningConfig(target_modules=["input_layernorm"]), 0),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.filterwarnings("ignore")
def test_what_an_adapter_makes_is_what_peft_merges(tmp_path, kind):
    make, config, factored = KINDS[kind]
    start, expected = tuned(make(), config, tmp_path)
    model = make()
    model.load_state_dict(start)
    before = {name: tensor.clone() for name, tensor in state_of(model).items()}
    adapter = read_adapter(tmp_path, held(model))
    assert not adapter.own
    assert sum(isinstance(value, LowRank) for value in adapter.values.values()) == factored
    add_adapter(model, adapter.values)
    found = state_of(model)
    assert any(not torch.equal(found[name], before[name]) for name in before)
    for name, tensor in expected.items():
        assert torch.allclose(found.get(name, found[next(iter(found))]), tensor, atol=1e-5), name


def test_factors_of_each_expert_by_itself(tmp_path):
    """As they were before transformers stacked experts: PEFT puts them together."""
    torch.manual_seed(0)
    sizes = {**SIZES, **WORDS, "num_key_value_heads": 1, "num_local_experts": 4}
    model = MixtralForCausalLM(MixtralConfig(**sizes)).eval()
    tensors, shapes = {}, {"w1": (24, 16), "w3": (24, 16), "w2": (16, 24)}
    for layer, expert, (w, (n, m)) in itertools.product(range(2), range(4), shapes.items()):
        name = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{w}"
        tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = (
            torch.randn(3, m),
            torch.randn(n, 3),
        )
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    lora(*shapes, lora_alpha=6, task_type="CAUSAL_LM").save_pretrained(tmp_path)
    values = read_adapter(tmp_path, held(model)).values
    for layer, expert in itertools.product(range(2), range(4)):
        key = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}"
        delta = {
            w: 2 * tensors[f"{key}.{w}.lora_B.weight"] @ tensors[f"{key}.{w}.lora_A.weight"] for w in shapes
        }
        place = f"model.layers.{layer}.mlp.experts"
        for name, added in (("gate_up_proj", [delta["w1"], delta["w3"]]), ("down_proj", [delta["w2"]])):
            start = model.get_parameter(f"{place}.{name}")[expert]
            assert torch.allclose(values[f"{place}.{name}"][expert], start + torch.cat(added), atol=1e-5)


REFUSED = {
    "PiSSA": (lora(init_lora_weights="pissa"), "init_lora_weights is 'pissa', which changes the base"),
    "OLoRA": (lora(init_lora_weights="olora"), "init_lora_weights is 'olora'"),
    "activated": (lora(alora_invocation_tokens=[1, 2]), r"activated LoRA \(alora_invocation_tokens\)"),
    "replicated": (lora(layer_replication=[(0, 2), (1, 2)]), "layer replication"),
    "prompt": (
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "type PROMPT_TUNING cannot be merged",
    ),
}


@pytest.mark.parametrize("kind", list(REFUSED))
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_change_of_weights_is_refused(tmp_path, kind):
    config, words = REFUSED[kind]
    get_peft_model(llama(), config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=words):
        read_adapter(tmp_path, held(llama()))


@pytest.mark.parametrize(
    "config",
    [
        lora("embed_tokens"),
        lora("lm_head"),
        lora(modules_to_save=["lm_head"]),
        lora(modules_to_save=["embed_tokens"]),
        lora(modules_to_save=["embed_tokens", "lm_head"]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tied_tensors_cannot_change_apart(tmp_path, config):
    model = llama(tie_word_embeddings=True)
    tuned(model, config, tmp_path)
    with pytest.raises(UserError, match="which is tied to it: give a base that is untied") as refused:
        read_adapter(tmp_path, held(llama(tie_word_embeddings=True)))
    assert "embed_tokens" in str(refused.value) and "lm_head" in str(refused.value)


@pytest.mark.parametrize(
    ("make", "base"),
    [
        (lambda: llama(LlamaForSequenceClassification, num_labels=5), llama),
        (lambda: bert(num_labels=5), lambda: bert(BertForMaskedLM)),
        (lambda: bert(num_labels=5), bert),
    ],
)
def test_a_head_that_the_base_lacks_is_kept_apart(tmp_path, make, base):
    model = make()
    targets = ["q_proj"] if "Llama" in type(model).__name__ else ["query"]
    _, expected = tuned(model, lora(*targets, task_type="SEQ_CLS"), tmp_path)
    adapter = read_adapter(tmp_path, held(base()))
    head = {name: tensor for name, tensor in expected.items() if name.startswith(("score", "classifier"))}
    assert head.keys() == adapter.own.keys()
    assert all(torch.allclose(adapter.own[name], head[name]) for name in head)
    assert len(adapter.values) == 2


def test_wrong_adapters(tmp_path):
    tuned(llama(), lora("q_proj", "up_proj"), tmp_path)
    wide = LlamaForCausalLM(LlamaConfig(**{**SIZES, "hidden_size": 32}, **WORDS))
    with pytest.raises(UserError, match=r"an adapter for another base: .*q_proj"):
        read_adapter(tmp_path, held(wide))
    with pytest.raises(UserError, match="an adapter for another base"):
        read_adapter(tmp_path, held(bert()))
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    first = sorted(tensors)[0]
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, file)
    with pytest.raises(UserError, match=r"tensor .*q_proj.lora_A.* is missing|tensor .* is missing"):
        read_adapter(tmp_path, held(llama()))
    save_file({**tensors, "base_model.model.model.layers.0.extra.weight": torch.zeros(2)}, file)
    with pytest.raises(
        UserError, match=r"a LlamaFor.* has no base_model\.model\.model\.layers\.0\.extra\.weight"
    ):
        read_adapter(tmp_path, held(llama()))
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, file)
    with pytest.raises(UserError, match="NaN"):
        read_adapter(tmp_path, held(llama()))
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(UserError, match="incomplete or damaged"):
        read_adapter(tmp_path, held(llama()))
    file.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match=r"no adapter_model\.safetensors"):
        read_adapter(tmp_path, held(llama()))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "peft_type": "NEW"}))
    with pytest.raises(UserError, match="cannot be read"):
        read_adapter(tmp_path, held(llama()))
