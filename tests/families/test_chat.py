"""Answers in a chat: what the template writes around prompt and answer, and where a turn ends."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from remerge.errors import UserError
from remerge.families import Example, family
from remerge.measures.score import Split, accuracy, score

CPU = torch.device("cpu")
MARKS = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" + OPEN
INST = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
DATED = "<s>Today is {{ strftime_now('%d %b %Y') }}. " + CHATML
THINKING = CHATML.replace(
    "assistant\n{%", "assistant\n{% if enable_thinking is false %}<think></think>{% endif %}{%"
)
BARE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
PAIRS = [("is a film good or bad ?", "good"), ("where is the cat ?", "in the house"), ("a", "bad")]


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    """A function from a template to a family with byte-level tokens and a random model."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=MARKS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    words.train_from_iterator([text for pair in PAIRS for text in pair], trainer)

    def make(template, **more):
        folder = tmp_path_factory.mktemp("chat")
        marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        kept = PreTrainedTokenizerFast(
            tokenizer_object=words, **marks, additional_special_tokens=MARKS[3:], model_max_length=120
        )
        kept.chat_template = template
        kept.save_pretrained(folder)
        shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        torch.manual_seed(0)
        config = LlamaConfig(**shape, vocab_size=len(kept), pad_token_id=2, initializer_range=0.3)
        LlamaForCausalLM(config).save_pretrained(folder)
        found = family("chat", folder)
        return found, found.load(folder, torch.float32, CPU)

    return make


@pytest.mark.parametrize(
    ("template", "end"), [(CHATML, "<|im_end|>"), (INST, "</s>"), (THINKING, "<|im_end|>"), (BARE, "</s>")]
)
def test_a_conversation_is_the_templates_own(chatting, template, end):
    """The prompt is what a chat sends to the model, and the answer what the template has of it."""
    chat, _ = chatting(template)
    words = chat.processor
    assert words.decode(chat.eos) == end
    for example, (prompt, answer) in zip(chat.examples("cola", PAIRS), PAIRS, strict=True):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        sent = words.apply_chat_template(
            turns[:1], add_generation_prompt=True, enable_thinking=False, return_dict=False
        )
        assert example.prompt == sent
        assert example.answer[-1] == chat.eos
        assert words.decode(example.answer[:-1]).strip() == answer
        if template != THINKING:  # it writes no thoughts into finished turns
            whole = words.apply_chat_template(turns, return_dict=False)
            assert whole[: len(sent) + len(example.answer) - 1] == [*sent, *example.answer[:-1]]


def test_answers_are_those_of_generate(chatting):
    chat, model = chatting(CHATML)
    examples = chat.examples("cola", PAIRS)
    said = chat.greedy(model, examples, 7)
    for example, answer in zip(examples, said, strict=True):
        alone = torch.tensor([example.prompt])
        out = model.generate(
            alone,
            attention_mask=torch.ones_like(alone),
            do_sample=False,
            max_new_tokens=7,
            eos_token_id=chat.eos,
            pad_token_id=2,
        )
        assert answer == out[0, len(example.prompt) :].tolist()
    own = [Example(e.prompt, answer) for e, answer in zip(examples, said, strict=True)]
    assert accuracy(chat, model, own, None, 2)["value"] == 1
    assert max(map(len, chat.greedy(model, examples))) == 16
    gold = chat.processor.batch_decode(said, skip_special_tokens=True)
    for metric in ("exact_match", "token_f1"):
        assert score(chat, model, Split(examples, gold, None, metric, 7, ""), 2)["value"] == 1
    wrong = [gold[0], "in the house", "in the house"]
    assert score(chat, model, Split(examples, wrong, None, "exact_match", 7, ""), 2)["value"] == 1 / 3


def test_a_template_is_told_one_day(chatting):
    """Else every result would depend on the day on which it was made."""
    chat, _ = chatting(DATED)
    assert "Today is 26 Jul 2024." in chat.processor.decode(chat.tokens(["a"])[0])


def test_a_prompt_that_does_not_fit_is_refused(chatting):
    """Without its beginning, it would not be a turn any more."""
    chat, _ = chatting(CHATML)
    with pytest.raises(
        UserError, match=r"a prompt has \d+ tokens in the chat template, and the model reads 118"
    ):
        chat.examples("cola", [("cat " * 200, "q")])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, r"no chat template in its tokenizer: save the experts' chat_template\.jinja there"),
        ("{{ raise_exception('no user turns') }}", r"its chat template fails \(.*no user turns\)"),
        ("{% for %}", r"its chat template fails"),
    ],
)
def test_a_template_that_is_missing_or_fails_is_refused(chatting, template, words):
    with pytest.raises(UserError, match=words):
        chatting(template)
