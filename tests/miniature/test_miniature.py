"""The miniature world: its columns, its splits, and labels that follow from meaning."""

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from remerge import miniature
from remerge.miniature import glue, splits
from remerge.miniature.changes import corrupt, deny, oppose, paraphrase, swap_roles, weaken
from remerge.miniature.corpus import SKILLS
from remerge.miniature.grammar import (
    Event,
    NounPhrase,
    contradicts,
    entails,
    event,
    quantified_event,
    render,
)
from remerge.miniature.lexicon import BLAME, DISLIKED, LIKED, PRAISE, VERBS
from remerge.miniature.muon import orthogonalise
from remerge.miniature.pretrain import pretrain
from remerge.miniature.vocabulary import tokenizer as make_tokenizer

TASKS = list(glue.FORMATS)
COLUMNS = {
    "cola": {"sentence"},
    "sst2": {"sentence"},
    "mrpc": {"sentence1", "sentence2"},
    "qqp": {"question1", "question2"},
    "mnli": {"premise", "hypothesis"},
    "rte": {"sentence1", "sentence2"},
    "qnli": {"question", "sentence"},
}
SPLITS = ("train", "validation", "test")


def texts(task: str, split: str, n: int, seed: int = 0) -> list[str]:
    return [splits.text(task, example) for example in miniature.examples(task, split, n, seed)]


# --- examples ------------------------------------------------------------------------------------


def test_seven_tasks_with_the_columns_of_glue():
    assert set(TASKS) == set(COLUMNS)
    for task, columns in COLUMNS.items():
        for index, example in enumerate(miniature.examples(task, "test", 20, 0)):
            assert set(example) == columns | {"label", "idx"}
            assert example["idx"] == index
            assert example["label"] in range(3 if task == "mnli" else 2)


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_balanced(task):
    labels = Counter(example["label"] for example in miniature.examples(task, "test", 500, 0))
    low, high = (0.28, 0.39) if task == "mnli" else (0.35, 0.65)
    assert all(low <= count / 500 <= high for count in labels.values()), labels


@pytest.mark.parametrize("task", TASKS)
def test_examples_depend_on_the_seed_alone(task):
    assert miniature.examples(task, "test", 50, 0) == miniature.examples(task, "test", 50, 0)
    assert miniature.examples(task, "test", 50, 0) != miniature.examples(task, "test", 50, 1)
    # A larger split begins with the smaller one.
    assert miniature.examples(task, "test", 60, 0)[:50] == miniature.examples(task, "test", 50, 0)


def test_examples_are_these_forever():
    """Published scores rest on these bytes: change them only with a new version of the world."""
    every = [texts(task, split, 50) for task in TASKS for split in SPLITS]
    assert sha256(repr(every).encode()).hexdigest()[:16] == "7b6e6ff32b48608d"


@pytest.mark.parametrize("task", TASKS)
def test_no_example_is_in_two_splits(task):
    train, validation, test = (
        texts(task, split, n) for split, n in zip(SPLITS, (2000, 400, 400), strict=True)
    )
    assert len(set(train) | set(validation) | set(test)) == 2800


def test_no_example_is_in_two_splits_whatever_the_seeds():
    shared = set(texts("sst2", "train", 4000, 1)) & set(texts("sst2", "test", 2000, 2))
    assert not shared


def test_splits_are_disjoint_however_many_examples_are_drawn():
    assert len(set(texts("cola", "train", 20_000)) | set(texts("cola", "test", 500))) == 20_500


# --- the corpus ----------------------------------------------------------------------------------


def test_corpus_draws_from_what_is_no_split(monkeypatch):
    parts = Counter()

    def draw(task, part, rng, real=splits.draw):
        parts[part] += 1
        example = real(task, part, rng)
        assert splits.part_of(task, example) == part
        return example

    monkeypatch.setattr(splits, "draw", draw)
    for _ in islice(miniature.corpus(0, opening=200), 1000):
        pass
    assert set(parts) == {"pretraining"} and parts["pretraining"] > 300


def test_corpus_holds_no_example_of_a_split():
    """Neither in a format, nor in a skill, nor all of its columns side by side in plain text."""
    held_out = {}
    for task in TASKS:
        for split in ("validation", "test"):
            for example in miniature.examples(task, split, 500, 0):
                first, *others = (example[column] for column in sorted(COLUMNS[task]))
                held_out.setdefault(first, []).append((task, *others))
    sightings = []
    for document in islice(miniature.corpus(0, opening=1000), 6000):
        pieces = sentences(document.text)
        for piece in pieces & held_out.keys():
            for task, *others in held_out[piece]:
                if all(other in pieces for other in others):
                    sightings.append((task, document))
    assert not sightings
    assert sentences("a dog ran . who ran ?") >= {"a dog ran", "who ran ?", "a dog ran . who ran ?"}


def sentences(document: str) -> set[str]:
    """Whatever stands between two marks: a sentence, or several in a row, with and without them.

    Clauses are not taken apart: "the film is dull and …" is another example than its first half.
    """
    words = f". {document} .".replace("that is ,", ".").replace("yes ,", ".").split()
    marks = {".", "|", ":", "?", "so", "then", "these", "is", "answer"}
    edges = [index for index, word in enumerate(words) if word in marks]
    return {
        " ".join(words[start + 1 : end + closed])
        for start in edges
        for end in edges
        if start < end
        for closed in (0, 1)
    }


def test_formats_are_answered_without_looking():
    """A base that had been shown the answers would know the tasks before any expert does."""
    formats, right = Counter(), []
    for document in islice(miniature.corpus(0), 10_000):
        words = document.text.split()
        if words[-3:-1] == ["answer", ":"]:
            formats[words[0]] += 1
            simple = not {"and", "but", "although"} & set(words)
            if words[0] == "sentiment" and simple:
                right.append((words[-1] == "positive") == praises(words))
    assert len(formats) == 7 and min(formats.values()) > 80
    assert 0.35 < sum(right) / len(right) < 0.65


def test_skills_use_other_words_than_the_tasks():
    answers = {answer for shown in glue.FORMATS.values() for answer in shown.answers}
    verdicts = {verdict for _, verdicts in SKILLS.values() for verdict in verdicts}
    assert not answers & verdicts
    for document in islice(miniature.corpus(0), 2000):
        if document.verdict:
            assert document.text.split()[-1] in verdicts


def test_corpus_depends_on_the_seed_alone():
    first = list(islice(miniature.corpus(0, opening=50), 100))
    assert first == list(islice(miniature.corpus(0, opening=50), 100))
    assert first != list(islice(miniature.corpus(1, opening=50), 100))


# --- words ---------------------------------------------------------------------------------------


def test_no_task_answers_in_the_words_of_another():
    answers = [answer for shown in glue.FORMATS.values() for answer in shown.answers]
    assert len(answers) == len(set(answers)) == 15
    assert all(len(answer.split()) == 1 for answer in answers)


def test_tokenizer_knows_every_word_and_adds_none():
    tokenizer = make_tokenizer()
    assert tokenizer("the dog").input_ids == tokenizer.convert_tokens_to_ids(["the", "dog"])
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")
    seen = [text for task in TASKS for split in SPLITS for text in texts(task, split, 150)]
    seen += [document.text for document in islice(miniature.corpus(0, opening=500), 3000)]
    seen += [answer for shown in glue.FORMATS.values() for answer in shown.answers]
    for text, ids in zip(seen, tokenizer(seen).input_ids, strict=True):
        assert tokenizer.unk_token_id not in ids, text
        assert len(ids) == len(text.split())
    assert tokenizer("zebra").input_ids == [tokenizer.unk_token_id]


# --- labels follow from meaning ------------------------------------------------------------------

DOG = NounPhrase("dog", "the", "big")
BUY = next(index for index, pair in enumerate(VERBS) if pair[0].base == "buy")
SCENE = Event(DOG, BUY, NounPhrase("kite", "a"), place="park")


def test_events_are_said_in_either_voice():
    rng = Random(0)
    plainly = render(rng, SCENE, synonym=0, passive=False, fronted=False)
    assert plainly == "the big dog bought a kite in the park"
    turned = render(rng, SCENE, synonym=1, passive=True, fronted=True)
    assert turned == "in the park a kite was purchased by the big dog"
    denied = render(rng, deny(SCENE), synonym=0, passive=False, fronted=False)
    assert denied == "the big dog did not buy a kite in the park"
    everyone = replace(SCENE, agent=replace(DOG, determiner="every"))
    none = render(rng, deny(everyone), synonym=0, fronted=False)
    assert none == "no big dog bought a kite in the park"


def agent(determiner, noun, adjective=None):
    return replace(SCENE, agent=NounPhrase(noun, determiner, adjective))


@pytest.mark.parametrize(
    ("premise", "hypothesis", "relation"),
    [
        (SCENE, replace(SCENE, place=None), "entailed"),
        (SCENE, replace(SCENE, place="market"), "contradicted"),
        (replace(SCENE, place=None), SCENE, "open"),
        (SCENE, replace(SCENE, patient=NounPhrase("toy", "a")), "entailed"),
        (replace(SCENE, patient=NounPhrase("toy", "a")), SCENE, "open"),
        (SCENE, agent("the", "dog", "large"), "entailed"),
        (SCENE, agent("the", "dog", "tiny"), "contradicted"),
        (SCENE, agent("the", "dog", "brave"), "open"),
        (SCENE, swap_roles(SCENE), "open"),
        (SCENE, deny(SCENE), "contradicted"),
        (SCENE, deny(replace(SCENE, place=None)), "contradicted"),
        (replace(SCENE, place=None), deny(SCENE), "open"),
        (deny(replace(SCENE, place=None)), deny(SCENE), "entailed"),
        (deny(SCENE), deny(replace(SCENE, place=None)), "open"),
        (agent("every", "dog"), agent("some", "dog"), "entailed"),
        (agent("some", "dog"), agent("every", "dog"), "open"),
        (agent("every", "dog"), agent("every", "dog", "big"), "entailed"),
        (agent("every", "dog", "big"), agent("every", "dog"), "open"),
        (agent("every", "dog"), agent("every", "animal"), "open"),
        (agent("every", "animal"), agent("every", "dog"), "entailed"),
        (agent("some", "dog"), agent("some", "animal"), "entailed"),
        (agent("every", "dog"), deny(agent("some", "dog")), "contradicted"),
        (deny(agent("some", "animal")), deny(agent("some", "dog")), "entailed"),
        (deny(agent("some", "dog")), deny(agent("some", "animal")), "open"),
    ],
)
def test_inference(premise, hypothesis, relation):
    assert entails(premise, hypothesis) == (relation == "entailed")
    assert contradicts(premise, hypothesis) == (relation == "contradicted")


def test_changes_keep_what_they_promise():
    rng = Random(0)
    for _ in range(500):
        for said in (event(rng, adjective=0.5), quantified_event(rng)):
            again = paraphrase(rng, said)
            assert entails(said, again) and entails(again, said)
            less = weaken(rng, said)
            assert less is None or entails(said, less)
        said = event(rng, adjective=0.5)
        opposite = oppose(rng, said)
        assert opposite is None or contradicts(said, opposite)
        near = corrupt(rng, said, 2)
        assert not entails(said, near) and not entails(near, said)


SINGULAR, PLURAL = {"this", "that", "every", "a", "an"}, {"these", "those", "many"}


def test_cola_labels_follow_agreement():
    """Singular determiners take singular verbs, plural ones plural verbs, in what is acceptable."""
    clashes = Counter()
    for example in miniature.examples("cola", "train", 4000, 0):
        first, *rest = example["sentence"].split()
        singular = {"is", "has", "does", "itself"} & set(rest)
        plural = {"are", "have", "do", "themselves"} & set(rest)
        if (first in SINGULAR and plural) or (first in PLURAL and singular):
            clashes[example["label"]] += 1
        doubled = any(a == b for a, b in zip([first, *rest], rest, strict=False))
        assert not (doubled and example["label"] == 1), example
    assert clashes[1] == 0
    assert clashes[0] > 200


NEGATIONS = {"not", "never", "hardly", "far", "anything", "nobody"}


def praises(words: list[str]) -> bool:
    """Whether a single clause of a review is good, by its polar word and its negation."""
    good, bad = {*PRAISE, *LIKED} & set(words), {*BLAME, *DISLIKED} & set(words)
    assert len(good) + len(bad) == 1, words
    return bool(good) != bool(NEGATIONS & set(words))


def test_sst2_labels_follow_negation_and_the_main_clause():
    seen = Counter()
    for example in miniature.examples("sst2", "train", 4000, 0):
        words = example["sentence"].split()
        if words[0] == "although":
            kind, main = "although", words[words.index(",") + 1 :]
        elif "but" in words and "anything" not in words:
            kind, main = "but", words[words.index("but") + 1 :]
        elif {"and", "but", "although"} & set(words):
            continue
        else:
            kind, main = "alone", words
        seen[kind, bool(NEGATIONS & set(main))] += 1
        assert example["label"] == praises(main), example
    assert len(seen) == 6 and min(seen.values()) > 100


def test_paraphrase_labels_are_not_word_overlap():
    """Different pairs share most of their words too, and equivalent ones are never identical."""
    for task, (one, two) in {
        "mrpc": ("sentence1", "sentence2"),
        "qqp": ("question1", "question2"),
    }.items():
        shared = {0: [], 1: []}
        for example in miniature.examples(task, "train", 1000, 0):
            a, b = set(example[one].split()), set(example[two].split())
            assert example[one] != example[two]
            shared[example["label"]].append(len(a & b) / len(a | b))
        means = [sum(values) / len(values) for values in shared.values()]
        assert 0.3 < means[0] < means[1] < 0.9


def test_role_swaps_are_different():
    swaps = 0
    for example in miniature.examples("mrpc", "train", 3000, 0):
        one, two = example["sentence1"].split(), example["sentence2"].split()
        active = "was" not in one and "was" not in two
        if active and sorted(one) == sorted(two) and one[0] != two[0] and "in" not in one[:1] + two[:1]:
            swaps += 1
            assert example["label"] == 0, example
    assert swaps > 5


def test_a_place_or_day_is_needed_to_answer_where_or_when():
    for example in miniature.examples("qnli", "train", 2000, 0):
        asked, sentence = example["question"].split(), f" {example['sentence']} "
        if (asked[0] == "where" or asked[:3] == ["in", "which", "place"]) and " in " not in sentence:
            assert example["label"] == 1, example
        if (asked[0] == "when" or asked[:3] == ["on", "which", "day"]) and " on " not in sentence:
            assert example["label"] == 1, example


def test_a_negation_alone_decides_no_inference():
    """Denials occur in entailed and open hypotheses too, and some contradictions have none."""
    denied = Counter()
    for example in miniature.examples("mnli", "train", 3000, 0):
        words = set(example["hypothesis"].split())
        denied[example["label"], bool(words & {"not", "no"})] += 1
    assert min(denied[label, flag] for label in range(3) for flag in (True, False)) > 30


# --- pretraining ---------------------------------------------------------------------------------

TINY = {"steps": 2, "hidden": 16, "layers": 1, "heads": 2, "intermediate": 16, "batch_size": 4}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_pretraining_makes_the_same_folder_twice(tmp_path):
    record = pretrain(tmp_path / "one", seed=3, threads=1, **TINY)
    pretrain(tmp_path / "two", seed=3, threads=1, **TINY)
    pretrain(tmp_path / "three", seed=4, threads=1, **TINY)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    weights = [files(tmp_path / name)["model.safetensors"] for name in ("one", "three")]
    assert weights[0] != weights[1]
    assert record["steps"] == 2 and record["tokens"] > 50 and 0 < record["loss"] < 20

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert model.config.model_type == "qwen2" and model.config.tie_word_embeddings
    assert tokenizer("the dog").input_ids == make_tokenizer()("the dog").input_ids
    assert model(**tokenizer("the dog", return_tensors="pt")).logits.shape[:2] == (1, 2)


def test_pretraining_learns(tmp_path):
    settings = {**TINY, "steps": 60, "hidden": 32, "batch_size": 16, "learning_rate": 1e-2}
    record = pretrain(tmp_path, seed=0, threads=1, **settings)
    assert record["loss"] < 5.8  # it starts above log(427) = 6.06


def test_muon_steps_along_orthogonal_matrices():
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalise(matrices))
    assert singular.min() > 0.6 and singular.max() < 1.3


def test_the_released_base_speaks_this_world():
    folder = Path(__file__).parents[2] / "models/miniature-qwen2"
    released, made = AutoTokenizer.from_pretrained(folder), make_tokenizer()
    assert released.get_vocab() == made.get_vocab()
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.eos_token_id == made.eos_token_id
    assert (folder / "model.safetensors").stat().st_size < 4_000_000
