"""Accuracy by teacher forcing against `generate`, and references against decoding one by one."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from remerge.errors import UserError
from remerge.families import Example
from remerge.measures.references import (
    divergences,
    load_reference,
    make_reference,
    save_reference,
    side_by_side,
)
from remerge.measures.score import accuracy, first_positions
from remerge.measures.words import WordHead
from remerge.outcomes import unpack


def generated(model, tokenizer, example, length=16):
    """The greedy answer of `generate`, alone and without padding."""
    out = model.generate(
        torch.tensor([example.prompt]),
        do_sample=False,
        max_new_tokens=length,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return out[0, len(example.prompt) :].tolist()


def test_teacher_forcing_is_exact_match_of_generate(family, model, tokenizer, examples):
    """Half of the gold answers are what the model would say, half are not, in several lengths."""
    judged, right = [], []
    for i, example in enumerate([*examples("cola"), *examples("mnli")]):
        said = generated(model, tokenizer, example, 2 + i % 4)
        answer = said if i % 2 else [*said[:-1], (said[-1] + 1) % 50]
        judged.append(Example(example.prompt, answer))
        right.append(float(generated(model, tokenizer, example, len(answer)) == answer))
    for batch_size in (1, 7, 64):
        score = accuracy(family, model, judged, None, batch_size)
        assert score["value"] == pytest.approx(sum(right) / len(judged))
        assert unpack(score["outcomes"], "accuracy", len(judged)).tolist() == right
    assert 0 < sum(right) < len(judged)
    assert score["restricted"] is None
    assert score["n"] == 48


def test_an_answer_may_be_as_long_as_the_longest_gold_one(family, model, tokenizer, examples):
    asked = [Example(e.prompt, [5] * 40) for e in examples("cola")]
    said = family.greedy(model, asked)
    assert said == [generated(model, tokenizer, e, 40) for e in asked]
    assert max(map(len, said)) == 40


@pytest.mark.parametrize("own", [{"repetition_penalty": 1.5}, {"num_beams": 4}, {"no_repeat_ngram_size": 2}])
def test_what_a_checkpoint_says_of_generation_changes_no_answer(family, model, examples, own):
    """Else answers would not be the greedy ones that accuracy judges, and each expert's by its own file."""
    plain = family.greedy(model, examples("cola"))
    model.generation_config.update(**own)
    assert family.greedy(model, examples("cola")) == plain
    assert model.generation_config.to_dict().items() >= own.items()


def test_restricted_accuracy_chooses_among_the_labels(family, model, tokenizer, examples):
    cases = examples("sst2")
    labels = sorted({e.answer[0] for e in cases})
    right = 0
    with torch.no_grad():
        for example in cases:
            logits = model(torch.tensor([example.prompt])).logits[0, -1]
            right += labels[int(logits[labels].argmax())] == example.answer[0]
    assert accuracy(family, model, cases, labels, 5)["restricted"] == pytest.approx(right / len(cases))


def test_first_positions():
    assert first_positions(torch.tensor([0, 0, 0, 1, 2, 2])).tolist() == [0, 3, 4]


def head_of(model):
    """A copy of a model's output head."""
    return WordHead((model.lm_head.weight.detach().clone(), None))


def test_reference_answers_are_generate_and_survive_the_disk(family, model, tokenizer, examples, tmp_path):
    inputs = examples("rte", 9)
    made = make_reference(family, model, inputs, 4, head_of(model))
    for example, answered, rows in zip(inputs, made.examples, made.rows, strict=True):
        assert answered.prompt == example.prompt
        assert answered.answer == generated(model, tokenizer, example)
        assert rows.shape == (len(answered.answer), model.config.hidden_size)
    path = tmp_path / "rte.safetensors"
    save_reference(path, made)
    loaded = load_reference(path, inputs, made.head)
    assert loaded.examples == made.examples
    assert all(torch.equal(a, b) for a, b in zip(loaded.rows, made.rows, strict=True))
    tensors = load_file(path)
    save_file({("log_probs" if name == "rows" else name): t for name, t in tensors.items()}, path)
    with pytest.raises(UserError, match="incomplete or damaged"):
        load_reference(path, inputs, made.head)  # as earlier versions wrote them


def test_divergence_from_itself_is_zero_and_from_another_is_not(family, model, tokenizer, examples, experts):
    reference = make_reference(family, model, examples("cola", 10), 4, head_of(model))
    own = divergences(family, model, reference, 3)
    assert own["kl"] == pytest.approx(0, abs=1e-5)
    assert own["js"] == pytest.approx(0, abs=1e-5)
    model.load_state_dict(experts["mnli"], strict=False)
    other = divergences(family, model, reference, 3)
    assert other["kl"] > 1e-3
    assert 0 < other["js"] <= 0.6932
    assert other["n"] == 10


def test_divergence_is_the_mean_over_positions_then_inputs(family, model, tokenizer, examples, experts):
    reference = make_reference(family, model, examples("cola", 5), 4, head_of(model))
    log_probs = [side_by_side(family, model, [(reference, [i])]) for i in range(5)]
    model.load_state_dict(experts["sst2"], strict=False)
    expected = []
    with torch.no_grad():
        for example, log_p in zip(reference.examples, log_probs, strict=True):
            whole = torch.tensor([example.prompt + example.answer])
            start = len(example.prompt) - 1
            log_q = model(whole).logits[0, start : start + len(example.answer)].log_softmax(-1)
            p = torch.distributions.Categorical(logits=log_p.double())
            q = torch.distributions.Categorical(logits=log_q.double())
            expected.append(torch.distributions.kl_divergence(p, q).mean().item())
    found = divergences(family, model, reference, 2)["kl"]
    assert found == pytest.approx(sum(expected) / 5, rel=1e-4)
