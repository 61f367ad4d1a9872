"""The tasks of the miniature world that are answered in words of their own."""

from collections import Counter
from hashlib import sha256
from itertools import islice
from random import Random

import pytest
from test_miniature import SPLITS, praises, sentences, texts

from remerge import miniature
from remerge.miniature import generation, splits
from remerge.miniature.lexicon import ANTONYMS, BLAME, HYPERNYM, PRAISE, SYNONYM, VERBS
from remerge.miniature.pairs import REVIEWS, SENTINELS, without_spans
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

TASKS = list(generation.FORMATS)
COLUMNS = {
    "imdb": {"text", "label"},
    "qasc": {"question", "choices", "answerKey", "fact1", "fact2", "formatted_question"},
    "squad": {"context", "question", "answers"},
    "common_gen": {"concepts", "target"},
}


# --- examples ------------------------------------------------------------------------------------


def test_four_tasks_with_the_columns_of_the_public_datasets():
    assert set(TASKS) == set(COLUMNS)
    for task, columns in COLUMNS.items():
        for index, example in enumerate(miniature.examples(task, "test", 20, 0)):
            assert set(example) == columns | {"idx"}
            assert example["idx"] == index
            assert generation.answer(task, example)


@pytest.mark.parametrize("task", TASKS)
def test_examples_depend_on_the_seed_alone(task):
    assert miniature.examples(task, "test", 50, 0) == miniature.examples(task, "test", 50, 0)
    assert miniature.examples(task, "test", 50, 0) != miniature.examples(task, "test", 50, 1)
    assert miniature.examples(task, "test", 60, 0)[:50] == miniature.examples(task, "test", 50, 0)


def test_examples_are_these_forever():
    """Published scores rest on these bytes: change them only with a new version of the world."""
    every = [miniature.examples(task, split, 50) for task in TASKS for split in SPLITS]
    assert sha256(repr(every).encode()).hexdigest()[:16] == "e733133fcbe19e5d"


@pytest.mark.parametrize("task", TASKS)
def test_no_example_is_in_two_splits(task):
    train, validation, test = (
        texts(task, split, n, seed)
        for seed, (split, n) in enumerate(zip(SPLITS, (2000, 400, 400), strict=True))
    )
    assert len(set(train) | set(validation) | set(test)) == 2800


# --- answers follow from meaning -----------------------------------------------------------------


def test_reviews_are_judged_by_their_verdict_alone():
    contrary, labels = 0, Counter()
    for example in miniature.examples("imdb", "train", 2000, 0):
        said = example["text"].removesuffix(" .").split(" . ")
        assert 3 <= len(said) <= 6
        (verdict,) = (s for s in said if s.startswith(generation.VERDICTS))
        good = praises(verdict.split())
        assert example["label"] == good, example
        labels[example["label"]] += 1
        others = [
            s for s in said if s != verdict and not {"but", "although"} & (set(s.split()) - {"anything"})
        ]
        contrary += any("anything but" not in s and praises(s.split()) != good for s in others)
    assert min(labels.values()) > 900
    assert contrary > 600


def test_quizzes_have_one_right_choice():
    keys, kinds = Counter(), Counter()
    forms = {verb.base: pair for pair in VERBS for verb in pair}
    for example in miniature.examples("qasc", "train", 2000, 0):
        choices, right = example["choices"]["text"], generation.answer("qasc", example)
        assert len(set(choices)) == 8 and example["choices"]["label"] == list("ABCDEFGH")
        assert example["formatted_question"].startswith(f"{example['question']} (A) {choices[0]} (B) ")
        keys[example["answerKey"]] += 1
        *_, word, _ = asked = example["question"].split()
        wrong = [choice for choice in choices if choice != right]
        if "opposite" in asked:
            assert right in ANTONYMS[word] and not set(wrong) & set(ANTONYMS[word])
        elif asked[-1] == "?" and asked[-2] == "mean":
            assert forms[right] == forms[asked[-3]] and right != asked[-3]
            assert all(forms[choice] != forms[right] for choice in wrong)
        elif asked[1] == "means" and word in ("good", "bad"):
            same = PRAISE if word == "good" else BLAME
            assert right in same and not set(wrong) & set(same)
        elif asked[1] == "means":
            assert SYNONYM[word] == right
        elif right in HYPERNYM:
            assert HYPERNYM[right] == word and all(HYPERNYM[choice] != word for choice in wrong)
        else:
            noun = example["fact1"].split()[1]
            assert HYPERNYM[noun] == right and noun in asked
        kinds[asked[1] if asked[0] == "what" else asked[0]] += 1
        assert right in f"{example['fact1']} {example['fact2']}".split()
    assert set(keys) == set("ABCDEFGH") and min(keys.values()) > 180


def test_answers_are_spans_of_their_context():
    asked = Counter()
    for example in miniature.examples("squad", "train", 1000, 0):
        (span,), (start,) = example["answers"]["text"], example["answers"]["answer_start"]
        context = f"{example['context']} "
        assert context[start:].startswith(f"{span} ")
        assert start == 0 or context[start - 1] == " "
        # The span stands in the sentence of the verb that is asked about.
        sentence = context[: context.index(" . ", start)].split(" . ")[-1].split()
        (action,) = (pair for pair in VERBS for verb in pair if set(verb) & set(example["question"].split()))
        assert {form for verb in action for form in verb} & set(sentence), example
        assert 3 <= context.count(" . ") <= 5
        asked[example["question"].split()[0]] += 1
    assert {"who", "what", "where", "when"} <= set(asked)


def test_sentences_use_every_concept():
    for example in miniature.examples("common_gen", "train", 1000, 0):
        said = example["target"].split()
        verbs = {verb.base: verb.past for pair in VERBS for verb in pair}
        assert 3 <= len(example["concepts"]) <= 5
        assert example["concepts"] == sorted(set(example["concepts"]))
        assert all(verbs.get(concept, concept) in said for concept in example["concepts"])


# --- the pairs that an encoder-decoder reads -----------------------------------------------------


def test_pairs_draw_from_what_is_no_split(monkeypatch):
    parts, tasks = Counter(), Counter()

    def draw(task, part, rng, real=splits.draw):
        parts[part] += 1
        tasks[task] += 1
        return real(task, part, rng)

    monkeypatch.setattr(splits, "draw", draw)
    for _ in islice(miniature.pairs(0, opening=100), 1000):
        pass
    assert set(parts) == {"pretraining"} and set(tasks) == set(splits.FORMATS)


def test_pairs_hold_no_example_of_a_split():
    """No text of the validation and test splits, and no questions or concepts with their context."""
    parts = {"imdb": ["text"], "qasc": ["formatted_question"], "squad": ["context", "question"]}
    held_out = [
        [example[column] for column in columns]
        for task, columns in parts.items()
        for split in ("validation", "test")
        for example in miniature.examples(task, split, 500, 0)
    ]
    concepts = {
        frozenset(example["concepts"])
        for split in ("validation", "test")
        for example in miniature.examples("common_gen", split, 500, 0)
    }
    firsts = {first: rest for first, *rest in held_out}
    for pair in islice(miniature.pairs(0, opening=200), 4000):
        for piece in sentences(pair.source) & firsts.keys():
            assert not all(other in pair.source for other in firsts[piece]), pair
        said = pair.source.removeprefix("say : ").removeprefix("concepts : ").removesuffix(" answer :")
        assert frozenset(said.removesuffix(" .").replace(" , ", " ").split()) not in concepts, pair


def test_prompts_are_answered_without_looking():
    prompts, right = Counter(), Counter()
    for pair in islice(miniature.pairs(0), 12_000):
        if pair.source.endswith("answer :"):
            task = pair.source.split()[0]
            assert not pair.verdict
            prompts[task] += 1
            right[task] += pair.target in f"{pair.source} ".split(" | question")[0]
    assert {"review", "quiz", "context", "concepts"} <= set(prompts)
    assert right["quiz"] < 0.5 * prompts["quiz"]


def test_skills_use_other_words_than_prompts():
    assert not set(REVIEWS) & {"negative", "positive"}
    for pair in islice(miniature.pairs(0), 2000):
        if pair.verdict:
            assert "answer" not in pair.source.split()


def test_a_text_is_whole_again_with_its_spans_put_back():
    rng = Random(0)
    for document in islice(miniature.corpus(0), 500):
        pair = without_spans(document.text, rng)
        spans, sentinel = {}, None
        for word in pair.target.split():
            if word in SENTINELS:
                sentinel = word
                spans[sentinel] = []
            else:
                spans[sentinel].append(word)
        assert list(spans) == list(SENTINELS[: len(spans)])
        whole = [w for word in pair.source.split() for w in spans.get(word, [word])]
        assert " ".join(whole) == document.text


def test_pairs_depend_on_the_seed_alone():
    first = list(islice(miniature.pairs(0, opening=50), 150))
    assert first == list(islice(miniature.pairs(0, opening=50), 150))
    assert first != list(islice(miniature.pairs(1, opening=50), 150))


def test_t5_knows_every_word():
    tokenizer = make_tokenizer("t5")
    seen = [
        text for pair in islice(miniature.pairs(0, opening=200), 3000) for text in (pair.source, pair.target)
    ]
    for task in TASKS:
        for example in miniature.examples(task, "train", 300, 0):
            seen += [splits.text(task, example), generation.answer(task, example)]
    for text, ids in zip(seen, tokenizer(seen).input_ids, strict=True):
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert ids[-1] == tokenizer.eos_token_id
