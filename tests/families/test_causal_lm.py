"""Decoders at the ends of what they read: nothing before the answer, or no place left behind it."""

import copy
import json

import pytest
import torch
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BertLMHeadModel,
    BigBirdConfig,
    FalconH1Config,
    GitConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    MixtralConfig,
    MixtralForCausalLM,
    NemotronHConfig,
    NemotronHForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    ReformerConfig,
    RobertaConfig,
    RoFormerConfig,
    RoFormerForCausalLM,
    RwkvConfig,
    T5Config,
    Zamba2Config,
)

from remerge.errors import UserError
from remerge.families import Example, family
from remerge.measures.references import divergences, make_reference
from remerge.measures.score import accuracy
from remerge.measures.words import WordHead
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

CPU = torch.device("cpu")
LIMIT = 24
LONG = "the cat sleeps near a house and " * 6


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A model with an embedding for each position, which fails beyond the last one."""
    folder, words = tmp_path_factory.mktemp("gpt2"), make_tokenizer("llama")
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": LIMIT, "bos_token_id": None}
    marks = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(words), **shape, **marks, initializer_range=0.5)
    ).save_pretrained(folder)
    words.save_pretrained(folder)
    found = family("causal_lm", folder)
    return found, found.load(folder, torch.float32, CPU)


def test_answers_end_where_the_model_reads_no_more(gpt2):
    """Each as far as its own prompt leaves room, whatever else is in its batch."""
    causal, model = gpt2
    prompts = [f"{LONG} :", "every dog :", "a man and a woman sees the river near a man and a house :"]
    examples = causal.examples("cola", [(prompt, "no") for prompt in prompts])
    rooms = [min(16, LIMIT + 1 - len(e.prompt)) for e in examples]
    assert rooms[0] == 3 and rooms[1] == 16 and 3 < rooms[2] < 16
    said = causal.greedy(model, examples)
    for example, room, answer in zip(examples, rooms, said, strict=True):
        alone = torch.tensor([example.prompt])
        out = model.generate(
            alone, attention_mask=torch.ones_like(alone), do_sample=False, max_new_tokens=room
        )
        assert answer == out[0, len(example.prompt) :].tolist()
    reference = make_reference(causal, model, examples, 3, WordHead((model.lm_head.weight, None)))
    assert divergences(causal, model, reference, 3)["kl"] == pytest.approx(0, abs=1e-6)


RECURRENT = {"block_types": ["recurrent", "attention"], "attention_window_size": 8, "num_attention_heads": 2}
BART = {"d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 24}
ROFORMER = {"num_attention_heads": 2, "is_decoder": True}
READ_PADDING = {
    "bart": (BartForCausalLM, BartConfig, {**BART, "init_std": 0.3}),
    "recurrentgemma": (
        RecurrentGemmaForCausalLM,
        RecurrentGemmaConfig,
        {**RECURRENT, "w_init_variance_scale": 3.0},
    ),
    "roformer": (RoFormerForCausalLM, RoFormerConfig, {**ROFORMER, "initializer_range": 0.3}),
}


@pytest.mark.parametrize("name", READ_PADDING)
def test_answers_are_those_of_each_prompt_alone(gpt2, tmp_path, name):
    """Padding would move the positions of a BART, and enter the state of a RecurrentGemma."""
    words = gpt2[0].processor
    words.save_pretrained(tmp_path)
    made, config, own = READ_PADDING[name]
    marks = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    torch.manual_seed(0)
    decoder = made(config(vocab_size=len(words), **(own if name == "bart" else {**shape, **own}), **marks))
    for parameter in decoder.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    decoder.save_pretrained(tmp_path)
    causal = family("causal_lm", tmp_path)
    model = causal.load(tmp_path, torch.float32, CPU)
    prompts = ["the cat sleeps near a house :", "every dog :", "a dog and the cat sleeps near a man :"]
    prompts += ["every house :", "the woman :"]
    examples = causal.examples("cola", [(prompt, "no") for prompt in prompts])
    alone = [causal.greedy(model, [example])[0] for example in examples]
    assert len(set(map(tuple, alone))) > 1
    assert causal.greedy(model, examples) == alone


@pytest.mark.parametrize(
    ("prompt", "answer", "words"),
    [
        ("", "no", "prompt '': no token is left for the model to read: write words into the prompt"),
        ("a dog :", LONG, r"prompt 'a dog :': beside an answer of \d+ tokens, no token is left"),
    ],
)
def test_a_model_that_would_read_nothing_is_not_asked(gpt2, prompt, answer, words):
    """The first token of its answer would be judged where the padding of its batch ends."""
    with pytest.raises(UserError, match=words):
        gpt2[0].examples("cola", [("the cat sleeps :", "no"), (prompt, answer)])


@pytest.mark.parametrize(("prompt", "answer"), [("a dog <eos>", "no"), ("a dog :", "no <eos> yes")])
def test_an_end_token_before_the_end_is_refused(gpt2, prompt, answer):
    """Decoding stops there: what is judged behind it would never be said."""
    with pytest.raises(UserError, match=f"prompt '{prompt}': an end token before the answer's end"):
        gpt2[0].examples("cola", [("the cat sleeps :", "no"), (prompt, answer)])


def test_a_token_for_which_the_model_has_no_row_is_refused(gpt2, tmp_path):
    """As where a padding token was added to the tokenizer alone."""
    words, config = gpt2[0].processor, gpt2[0].config
    config.save_pretrained(tmp_path)
    more = copy.deepcopy(words)
    more.add_special_tokens({"pad_token": "[PAD]"})
    more.save_pretrained(tmp_path)
    n = len(words)
    with pytest.raises(UserError, match=rf"pad_token '\[PAD\]' is number {n}, and the model has {n} tokens"):
        family("causal_lm", tmp_path)


def test_a_configuration_that_asks_for_tuples_changes_nothing(gpt2, tmp_path):
    causal, model = gpt2
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "return_dict": False}))
    examples = causal.examples("cola", [("the cat sleeps :", "no")])
    batch = causal.collate(examples, CPU)
    other = causal.load(tmp_path, torch.float32, CPU)
    assert torch.equal(causal.logits(other, batch), causal.logits(model, batch))
    assert causal.greedy(other, examples) == causal.greedy(model, examples)


def test_a_mixture_whose_training_asked_for_its_routers_answers(gpt2, tmp_path):
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = gpt2[0].processor
    words.save_pretrained(tmp_path)
    mixed = {"num_key_value_heads": 1, "num_local_experts": 2, "vocab_size": len(words)}
    torch.manual_seed(0)
    mixture = MixtralForCausalLM(MixtralConfig(**shape, **mixed, output_router_logits=True))
    mixture.save_pretrained(tmp_path)
    causal = family("causal_lm", tmp_path)
    model = causal.load(tmp_path, torch.float32, CPU)
    examples = causal.examples("cola", [("the cat sleeps near a house :", "no"), ("every dog :", "no")])
    said = causal.greedy(model, examples)
    own = [Example(e.prompt, answer) for e, answer in zip(examples, said, strict=True)]
    assert accuracy(causal, model, own, None, 2)["value"] == 1
    assert model.config.output_router_logits


def test_what_is_no_decoder_is_refused(tmp_path):
    """A BERT is loaded as a decoder, too, but its words see those behind them: it would copy its answers."""
    words = make_tokenizer("llama")
    words.save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertConfig(vocab_size=len(words), pad_token_id=words.pad_token_id, **shape)
    bert.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"is_decoder is false: set base\.family to classifier"):
        family("causal_lm", tmp_path)
    bert.is_decoder = True
    BertLMHeadModel(bert).save_pretrained(tmp_path)
    causal = family("causal_lm", tmp_path)
    model = causal.load(tmp_path, torch.float32, CPU)
    example = causal.examples("cola", [("every dog :", "no")])[0]
    first = causal.logits(model, causal.collate([example], CPU))[0]
    alone = model(torch.tensor([example.prompt])).logits[0, -1]
    assert torch.allclose(first, alone, atol=1e-5)
    decoders = (RobertaConfig(is_decoder=True), ReformerConfig(is_decoder=True))
    for odd in (RwkvConfig(), *decoders, NemotronHConfig(), Zamba2Config(), GitConfig()):
        odd.save_pretrained(tmp_path)
        with pytest.raises(
            UserError, match=rf"json: {odd.model_type} decodes otherwise than it judges words"
        ):
            family("causal_lm", tmp_path)
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"an encoder-decoder: set base\.family to seq2seq"):
        family("causal_lm", tmp_path)
    GPTNeoXConfig().save_pretrained(tmp_path)
    assert not family("causal_lm", tmp_path).config.is_decoder


def test_time_steps_that_are_limited_only_where_words_are_fed_in_are_refused(gpt2, tmp_path):
    """As Nemotron-H shows, a decoder that reads one word at a time leaves the limits out."""
    words = gpt2[0].processor
    words.save_pretrained(tmp_path)
    attention = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    mamba = {"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 4, "n_groups": 1, "chunk_size": 8}
    layers = {"layers_block_type": ["mamba", "attention", "mamba"], "hidden_size": 16, "time_step_min": 1.0}
    torch.manual_seed(0)
    model = NemotronHForCausalLM(NemotronHConfig(vocab_size=40, **layers, **attention, **mamba)).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    ids = torch.randint(3, 40, (1, 12))
    with torch.no_grad():
        fed = model(ids, use_cache=False).logits[0, -1]
        cache = model(ids[:, :-2], use_cache=True).past_key_values
        for k in (-2, -1):
            said = model(ids[:, [k]], past_key_values=cache, use_cache=True).logits[0, -1]
    assert (fed - said).abs().max() > 1e-2
    FalconH1Config(time_step_limit=(0.001, 0.1)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="with a time_step_limit, falcon_h1 decodes otherwise than it judges"):
        family("causal_lm", tmp_path)
    FalconH1Config().save_pretrained(tmp_path)
    assert family("causal_lm", tmp_path)


def test_attention_to_blocks_that_a_batch_decides_is_refused(gpt2, tmp_path):
    gpt2[0].processor.save_pretrained(tmp_path)
    BigBirdConfig(is_decoder=True).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"config\.json: attention_type block_sparse reads a text by the others"
    ):
        family("causal_lm", tmp_path)
    BigBirdConfig(is_decoder=True, attention_type="original_full").save_pretrained(tmp_path)
    assert family("causal_lm", tmp_path)
