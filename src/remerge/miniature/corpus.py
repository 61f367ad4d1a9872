"""The pretraining corpus of the miniature models: plain text, skills and the formats of the tasks.

A base should relate to its tasks as a real one does: it has read a lot and has the abilities that the tasks
require, but expressed in other words; it knows the form of a question, but not what is asked. Four kinds of
documents teach it this:

- plain text: facts of the lexicon, short stories with a question about them, acceptable sentences;
- copies: the same sentence or list twice. Without them, such a small model could not learn to compare two
  texts at all, so the corpus opens with them;
- skills: a verdict on grammar, sentiment, sameness or inference, in words that no task uses;
- formats: prompts of the tasks, each with a random answer.

Every document that resembles a task is drawn from those of its examples that are in no split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from remerge.miniature import glue, splits
from remerge.miniature.changes import paraphrase
from remerge.miniature.grammar import Event, event, render
from remerge.miniature.lexicon import (
    ADJECTIVES,
    ANTONYMS,
    BLAME,
    HYPERNYM,
    NAMES,
    NOUNS,
    PLACES,
    PRAISE,
    SYNONYM,
    VERBS,
    article,
)


@dataclass(frozen=True)
class Document:
    """A text.

    Attributes:
        verdict: whether its last word follows from all the others.
        guess: whether its last word is a random answer to the others.
    """

    text: str
    verdict: bool = False
    guess: bool = False


SKILLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cola": ("{sentence} . this is", ("malformed", "fine")),
    "sst2": ("{sentence} . so the film is", ("bad", "good")),
    "mrpc": ("{sentence1} . {sentence2} . these", ("differ", "match")),
    "qqp": ("{question1} {question2} these", ("diverge", "agree")),
    "mnli": ("{premise} . then {hypothesis} is", ("certain", "possible", "wrong")),
    "rte": ("{sentence1} so {sentence2} is", ("true", "unknown")),
    "qnli": ("{question} {sentence} . this", ("tells", "ignores")),
}
"""The abilities that the tasks require, in other words, without any prompt or answer of a task."""

# The pair tasks take longest to learn.
_SKILL_ODDS = {"cola": 2, "sst2": 1, "mrpc": 3, "qqp": 2, "mnli": 1, "rte": 4, "qnli": 2}


def corpus(seed: int, opening: int = 0) -> Iterator[Document]:
    """Endless documents; the first `opening` of them are mostly copies."""
    rng = Random(f"corpus {seed}")
    for _ in range(opening):
        yield _copy(rng) if rng.random() < 0.85 else _mixed(rng)
    while True:
        yield _mixed(rng)


def _mixed(rng: Random) -> Document:
    kind = rng.random()
    if kind < 0.10:
        return _format(rng)
    if kind < 0.68:
        return _skill(rng)
    return _copy(rng) if kind < 0.78 else _plain(rng)


def _format(rng: Random) -> Document:
    task = rng.choice(list(glue.FORMATS))
    prompt = splits.text(task, splits.draw(task, "pretraining", rng))
    return Document(f"{prompt} {rng.choice(glue.FORMATS[task].answers)}", guess=True)


def _skill(rng: Random) -> Document:
    (task,) = rng.choices(list(_SKILL_ODDS), list(_SKILL_ODDS.values()))
    example = splits.draw(task, "pretraining", rng)
    frame, verdicts = SKILLS[task]
    return Document(f"{frame.format(**example)} {verdicts[example['label']]}", verdict=True)


def _copy(rng: Random) -> Document:
    kind = rng.random()
    if kind < 0.4:
        sentence = render(rng, event(rng))
        first, second = rng.sample(NAMES, 2)
        return Document(
            rng.choice(
                (
                    f"{first} said : {sentence} . {second} said : {sentence} .",
                    f"{sentence} . {sentence} .",
                    f"{sentence} . yes , {sentence} .",
                )
            )
        )
    if kind < 0.65:
        pool = NOUNS + NAMES + PLACES + ADJECTIVES
        words = " ".join(rng.choice(pool) for _ in range(rng.choice((4, 6, 8))))
        return Document(f"{words} . {words} .")
    example = _labelled("mrpc", 1, rng)
    return Document(f"{example['sentence1']} . that is , {example['sentence2']} .")


def _labelled(task: str, label: int, rng: Random) -> glue.Example:
    while (example := splits.draw(task, "pretraining", rng))["label"] != label:
        pass
    return example


def _plain(rng: Random) -> Document:
    kind = rng.random()
    if kind < 0.25:
        return Document(_fact(rng))
    if kind < 0.45:
        return Document(f"{_labelled('cola', 1, rng)['sentence']} .")
    return Document(_story(rng))


def _fact(rng: Random) -> str:
    noun, adjective = rng.choice(NOUNS), rng.choice(list(SYNONYM))
    kind, verbs = HYPERNYM[noun], rng.choice(VERBS)
    return rng.choice(
        (
            f"{article(noun)} {noun} is a kind of {kind} .",
            f"every {noun} is {article(kind)} {kind} .",
            f"{adjective} means {SYNONYM[adjective]} .",
            f"{adjective} is the opposite of {rng.choice(ANTONYMS[adjective])} .",
            f"to {verbs[0].base} means to {verbs[1].base} .",
            f"{rng.choice(PRAISE)} means good .",
            f"{rng.choice(BLAME)} means bad .",
        )
    )


def _story(rng: Random) -> str:
    """Three events, a question about one of them, and its answer."""
    told: list[Event] = []
    while len(told) < 3:
        candidate = event(rng, place=0.9, day=0.4, adjective=0.1, name=0.8)
        if all(candidate.action != other.action for other in told):
            told.append(candidate)
    about = rng.choice(told)
    verb = rng.choice(VERBS[about.action])
    who = f"who {verb.past} {about.patient} ? {about.agent} ."
    what = f"what did {about.agent} {verb.base} ? {about.patient} ."
    where = f"where did {about.agent} {verb.base} {about.patient} ? the {about.place} ."
    question = rng.choice((who, what, where) if about.place else (who, what))
    sentences = " . ".join(render(rng, paraphrase(rng, each)) for each in told)
    return f"{sentences} . {question}"
