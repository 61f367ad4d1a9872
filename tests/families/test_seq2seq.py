"""Encoder-decoders: teacher forcing against decoding, ROUGE against a formula, references."""

import shutil

import pytest
import torch
from transformers import (
    FSMTConfig,
    LlamaConfig,
    ProphetNetConfig,
    T5Config,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
    T5GemmaModuleConfig,
)

from remerge.config import Finetune
from remerge.errors import UserError
from remerge.families import Example, family
from remerge.finetune import finetune
from remerge.measures.references import divergences, make_reference
from remerge.measures.score import Split, accuracy, score
from remerge.measures.words import WordHead
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

CPU = torch.device("cpu")
PAIRS = [
    ("the cat sleeps near a house", "a cat"),
    ("every dog", "the dog runs"),
    ("some bird sees the river and a tree", "no"),
    ("a man", "a man and a woman"),
]


@pytest.fixture(scope="module")
def t5(bases):
    found = family("seq2seq", bases["t5"])
    torch.manual_seed(3)
    model = found.load(bases["t5"], torch.float32, CPU)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return found, model


def said(model, seq2seq, prompt, longest=64):
    out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=longest)[0, 1:].tolist()
    end = seq2seq.eos
    return out[: out.index(end) + 1] if end in out else out


def test_greedy_is_generate_one_by_one(t5):
    seq2seq, model = t5
    examples = seq2seq.examples("squad", PAIRS)
    assert [e.answer[-1] for e in examples] == [seq2seq.eos] * 4
    assert seq2seq.greedy(model, examples) == [said(model, seq2seq, e.prompt) for e in examples]


def test_an_answer_may_be_as_long_as_the_longest_gold_one(t5):
    seq2seq, model = t5
    examples = seq2seq.examples("squad", [(prompt, "a cat " * 50) for prompt, _ in PAIRS])
    assert {len(e.answer) for e in examples} == {101}
    assert seq2seq.greedy(model, examples) == [said(model, seq2seq, e.prompt, 101) for e in examples]


def test_teacher_forcing_is_exact_match(t5):
    seq2seq, model = t5
    examples = seq2seq.examples("squad", PAIRS)
    own = [
        Example(e.prompt, said(model, seq2seq, e.prompt)[: 3 + i], "squad") for i, e in enumerate(examples)
    ]
    mixed = [own[0], examples[1], own[2], examples[3]]
    for size in (1, 4):
        assert accuracy(seq2seq, model, mixed, None, size)["value"] == 0.5


def test_an_adapter_on_what_no_answer_depends_on_is_refused(bases, t5, tmp_path):
    """Encoder and decoder read their own names of the shared embeddings."""
    seq2seq, _ = t5
    model = seq2seq.load(bases["t5"], torch.float32, CPU)
    recipe = Finetune(steps=2, batch_size=2, lora={"targets": ["shared"]})
    with pytest.raises(UserError, match=r"lora\.targets: no answer depends on these layers"):
        finetune(seq2seq, model, seq2seq.examples("squad", PAIRS), [], recipe, 0, tmp_path)


def f_measure(a, b, n):
    """ROUGE-n by counting, from its definition."""
    grams = [[tuple(t[i : i + n]) for i in range(len(t) - n + 1)] for t in (a.split(), b.split())]
    hits = sum(min(grams[0].count(g), grams[1].count(g)) for g in set(grams[0]))
    return 2 * hits / max(1, len(grams[0]) + len(grams[1]))


def test_rouge_scores_what_is_decoded(t5):
    seq2seq, model = t5
    examples = seq2seq.examples("common_gen", PAIRS)
    texts = seq2seq.processor.batch_decode(seq2seq.greedy(model, examples), skip_special_tokens=True)
    # Half of the gold answers share words with what is said.
    gold = [" ".join(text.split()[::2]) if i % 2 else "a cat" for i, text in enumerate(texts)]
    found = score(seq2seq, model, Split(examples, gold, None, "rouge2", None, ""), 2)
    assert found["metric"] == "rouge2"
    assert found["n"] == 4
    assert found["value"] == found["rouge2"]
    for n in (1, 2):
        expected = sum(f_measure(t, g, n) for t, g in zip(texts, gold, strict=True)) / 4
        assert found[f"rouge{n}"] == pytest.approx(expected)
    assert 0 < found["rougeL"] <= found["rouge1"] < 1


def test_the_reference_is_at_no_divergence_from_itself(t5):
    seq2seq, model = t5
    head = WordHead((model.lm_head.weight.detach(), None))
    reference = make_reference(seq2seq, model, seq2seq.examples("squad", PAIRS), 2, head)
    assert divergences(seq2seq, model, reference, 3)["kl"] == pytest.approx(0, abs=1e-5)


def test_a_prompt_without_tokens_is_refused(bases, tmp_path):
    """Of padding alone, an encoder says what the length of its batch makes of it."""
    shutil.copytree(bases["t5"], tmp_path, dirs_exist_ok=True)
    make_tokenizer("llama").save_pretrained(tmp_path)  # which adds no end token
    with pytest.raises(UserError, match="prompt '': no token for the model to read: write words into the"):
        family("seq2seq", tmp_path).examples("squad", [*PAIRS, ("", "no")])


def test_a_decoder_may_say_itself_what_its_answers_begin_with(tmp_path):
    """As in T5Gemma, whose configuration has no decoder_start_token_id."""
    words = make_tokenizer("t5")
    words.save_pretrained(tmp_path)
    marks = {"pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": 5}
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(words)}
    half = T5GemmaModuleConfig(**shape, **heads, **marks)
    torch.manual_seed(0)
    config = T5GemmaConfig(encoder=half, decoder=half, vocab_size=len(words), initializer_range=0.5, **marks)
    T5GemmaForConditionalGeneration(config).save_pretrained(tmp_path)
    seq2seq = family("seq2seq", tmp_path)
    assert seq2seq.start == 5
    model = seq2seq.load(tmp_path, torch.float32, CPU)
    examples = seq2seq.examples("squad", PAIRS)
    spoken = seq2seq.greedy(model, examples)
    assert spoken == [said(model, seq2seq, e.prompt) for e in examples]
    own = [Example(e.prompt, answer) for e, answer in zip(examples, spoken, strict=True)]
    assert accuracy(seq2seq, model, own, None, 4)["value"] == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (FSMTConfig(langs=["en", "de"]), "fsmt decodes otherwise than it judges words"),
        (LlamaConfig(), r"no encoder-decoder: set base\.family to causal_lm"),
        (T5Config(), "no decoder_start_token_id: set the token that its decoder begins with"),
        (ProphetNetConfig(), "prophetnet decodes otherwise than it judges words"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, config, words):
    make_tokenizer("t5").save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"config.json: {words}"):
        family("seq2seq", tmp_path)
