"""The likeliest of an example's answers, in every family that answers in words."""

import pytest
import torch
from choosing import likeliest, likelihood

from remerge.errors import UserError
from remerge.families import family
from remerge.measures.choice import likelihoods, options, taken
from remerge.measures.score import Split, score
from remerge.outcomes import unpack, unpack_taken

CPU = torch.device("cpu")
NOUNS = ["cat", "dog", "house", "garden", "teacher", "river"]
ANSWERS = [
    [f"the {noun}", f"a {noun} near the {NOUNS[k - 1]} sleeps", f"in a {NOUNS[k - 2]}"]
    for k, noun in enumerate(NOUNS)
]
ASKED = [(f"{'the ' * k}{NOUNS[k - 3]} sleeps :", own[k % 3]) for k, own in enumerate(ANSWERS)]
KINDS = {"llama": "causal_lm", "chat": "chat", "t5": "seq2seq"}


@pytest.fixture(params=KINDS)
def speaking(request, bases):
    """A family, one of its models, and how it sees a prompt and an answer."""
    found = family(KINDS[request.param], bases[request.param])
    words = found.processor

    def seen(prompt, answer):
        if request.param == "t5":
            return words(prompt).input_ids, [t for t in words(answer).input_ids if t != words.eos_token_id]
        before = f"<user> {prompt} <end> <assistant>" if request.param == "chat" else prompt
        first, whole = (
            words(text, add_special_tokens=False).input_ids for text in (before, f"{before} {answer}")
        )
        return first, whole[len(first) :]

    return found, found.load(bases[request.param], torch.float32, CPU), seen


def test_it_has_the_largest_sum_by_the_formula_in_any_batch(speaking):
    found, model, seen = speaking
    start = getattr(found, "start", None)
    given = options("here", found, "own", ASKED, ANSWERS)
    assert given.lengths == [len(text) for own in ANSWERS for text in own]
    expected = [
        likelihood(model, *seen(prompt, text), start)
        for (prompt, _), own in zip(ASKED, ANSWERS, strict=True)
        for text in own
    ]
    gold = [own.index(right) for (_, right), own in zip(ASKED, ANSWERS, strict=True)]
    per = {
        "choice": expected,
        "choice_by_length": [a / b for a, b in zip(expected, given.lengths, strict=True)],
    }
    best = {kind: [likeliest(sums[k : k + 3]) for k in range(0, len(sums), 3)] for kind, sums in per.items()}
    assert best["choice"] != best["choice_by_length"]
    for size in (1, 4, 64):
        assert likelihoods(found, model, given.examples, size).tolist() == pytest.approx(expected, rel=1e-5)
        for metric, places in best.items():
            examples = found.examples("own", ASKED)
            split = Split(examples, [right for _, right in ASKED], None, metric, None, "", given)
            made = score(found, model, split, size)
            right = [float(a == b) for a, b in zip(places, gold, strict=True)]
            assert unpack(made["outcomes"], metric, len(gold)).tolist() == right
            assert unpack_taken(made["taken"], 3, len(gold)) == places
            assert (made["metric"], made["value"], made["n"]) == (metric, sum(right) / len(gold), len(gold))
            assert "restricted" not in made


def test_a_pass_has_fewer_of_long_answers(speaking, monkeypatch):
    """So that it takes the memory that is foretold."""
    found, model, _ = speaking
    answers = [["the cat", "the dog " * 20], ["a cat", "the house " * 30], ["a dog", "a river " * 40]]
    given = options("here", found, "own", [("the cat :", own[0]) for own in answers], answers)
    alone, tokens, collate = likelihoods(found, model, given.examples, 1), [], found.collate

    def counted(examples, device):
        tokens.append(sum(len(example.answer) for example in examples))
        return collate(examples, device)

    monkeypatch.setattr(found, "collate", counted)
    assert likelihoods(found, model, given.examples, 3).tolist() == pytest.approx(alone.tolist(), rel=1e-5)
    assert sum(tokens) == sum(len(example.answer) for example in given.examples) and max(tokens) <= 3 * 32


def test_of_several_likeliest_the_first_is_chosen_and_of_nan_none(speaking):
    """Without its head, a model finds every word as likely as any other."""
    found, model, _ = speaking
    answers = [["the cat sleeps", "a cat", "a dog"], ["the dog", "the cat", "a house sleeps"]]
    model.get_output_embeddings().weight.data.zero_()
    asked = [("the cat :", own[0]) for own in answers]
    given = options("here", found, "own", asked, answers)
    assert taken(found, model, given, 8, per_character=False) == [1, 0]
    model.get_output_embeddings().weight.data.fill_(torch.nan)
    assert taken(found, model, given, 8, per_character=False) == [3, 3]
    split = Split(found.examples("own", asked), ["the cat"] * 2, None, "choice", None, "", given)
    assert score(found, model, split, 8)["value"] == 0


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        (["a cat", "a  cat"], "two answers with the same tokens"),
        (["a cat", "the dog " * 200], "an answer that is too long for the model"),
    ],
)
def test_answers_that_the_model_cannot_compare_are_refused(bases, answers, fault):
    found = family("seq2seq", bases["t5"])
    found.processor.model_max_length = 100
    rows = [["a cat", "a dog"], answers]
    with pytest.raises(UserError, match=rf"^own\.parquet: example 2 has {fault}: change it, or use another"):
        options("own.parquet", found, "own", [("the cat :", own[0]) for own in rows], rows)
