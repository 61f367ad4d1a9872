"""The seven tasks, in the columns and labels of the public GLUE datasets."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from remerge.miniature.changes import (
    another,
    corrupt,
    deny,
    oppose,
    paraphrase,
    swap_roles,
    weaken,
    with_another,
    with_part,
)
from remerge.miniature.grammar import Event, contradicts, entails, event, quantified_event, render
from remerge.miniature.lexicon import VERBS
from remerge.miniature.sentences import cola, sst2

Example = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """How a decoder is asked to do a task: a prompt with its columns, and the answer for each label."""

    prompt: str
    answers: tuple[str, ...]


FORMATS: dict[str, Format] = {
    "cola": Format("grammar : {sentence} answer :", ("unacceptable", "acceptable")),
    "sst2": Format("sentiment : {sentence} answer :", ("negative", "positive")),
    "mrpc": Format("same : {sentence1} | {sentence2} answer :", ("different", "equivalent")),
    "qqp": Format("intent : {question1} | {question2} answer :", ("distinct", "duplicate")),
    "mnli": Format(
        "premise : {premise} | hypothesis : {hypothesis} answer :",
        ("entailment", "neutral", "contradiction"),
    ),
    "rte": Format("text : {sentence1} | claim : {sentence2} answer :", ("implied", "unproven")),
    "qnli": Format("question : {question} | {sentence} answer :", ("answered", "unanswered")),
}


# --- mrpc and qqp: paraphrase --------------------------------------------------------------------


def _mrpc(rng: Random) -> Example:
    """One event told twice, in different words; or two events that share most of their words."""
    same = rng.random() < 0.5
    first = event(rng)
    if same:
        second = first
    elif rng.random() < 0.15:
        second = swap_roles(first)
    else:
        second = corrupt(rng, first, rng.choice((2, 2, 3)))
    passive = rng.random() < 0.4
    other_voice = rng.random() < 0.35
    sentence = render(rng, first, passive=passive)
    again = sentence
    while again == sentence:
        again = render(rng, paraphrase(rng, second), passive=passive != other_voice)
    return {"sentence1": sentence, "sentence2": again, "label": int(same)}


ASKED = {"who": "agent", "what": "patient", "where": "place", "when": "day"}
"""The part of an event that answers each question."""


def ask(rng: Random, about: Event, asked: str) -> str:
    """A question about one part of an event; it mentions neither that part, nor the place, nor the day."""
    verb = rng.choice(VERBS[about.action])
    plain = rng.random() < 0.5
    if asked == "who":
        if plain:
            return f"who {verb.past} {about.patient} ?"
        return f"by whom was {about.patient} {verb.participle} ?"
    if asked == "what":
        return f"{'what' if plain else 'which thing'} did {about.agent} {verb.base} ?"
    words = {"where": ("where", "in which place"), "when": ("when", "on which day")}[asked]
    return f"{words[0] if plain else words[1]} did {about.agent} {verb.base} {about.patient} ?"


def _mentioned(asked: str) -> list[str]:
    """The parts of an event that a question about `asked` mentions."""
    return [part for part in ("action", "agent", "patient") if part != ASKED[asked]]


def _alter(rng: Random, said: Event, parts: list[str]) -> Event:
    """The event with these parts replaced."""
    for part in parts:
        said = with_another(rng, said, part)
    return said


def _qqp(rng: Random) -> Example:
    """The same question in other words; or one about another part or another event."""
    same = rng.random() < 0.5
    first = second = event(rng, adjective=0.15)
    asked = asked_again = rng.choice(list(ASKED))
    if not same:
        kind = rng.random()
        if kind < 0.4:
            asked_again = another(rng, list(ASKED), asked)
        if kind > 0.3:
            parts = _mentioned(asked)
            second = _alter(rng, first, rng.sample(parts, min(len(parts), rng.choice((1, 2, 2)))))
    question = ask(rng, first, asked)
    again = question
    while again == question:
        again = ask(rng, paraphrase(rng, second), asked_again)
    return {"question1": question, "question2": again, "label": int(same)}


# --- mnli, rte and qnli: inference ---------------------------------------------------------------


def _weakened(rng: Random, quantified: float, **odds: float) -> tuple[Event, Event]:
    """An event, and another that it entails and that says strictly less."""
    while True:
        strong = quantified_event(rng) if rng.random() < quantified else event(rng, **odds)
        weak = weaken(rng, strong)
        if weak is not None and not entails(weak, strong):
            return strong, weak


def _mnli(rng: Random) -> Example:
    """Entailment by saying less, neutral by saying more, contradiction by denial or opposites.

    Denying both sides reverses an entailment, so a negation alone does not reveal the label.
    """
    label = rng.randrange(3)
    strong, weak = _weakened(rng, 0.25, place=0.4, adjective=0.4)
    deniable = strong.agent.determiner != "every"
    reversed_by_denial = deniable and rng.random() < 0.15
    if label == 0:
        pair = (deny(weak), deny(strong)) if reversed_by_denial else (strong, weak)
    elif label == 1:
        pair = (deny(strong), deny(weak)) if reversed_by_denial else (weak, strong)
    else:
        opposite = oppose(rng, strong) if strong.agent.determiner not in ("every", "some") else None
        if reversed_by_denial:
            pair = (deny(weak), strong)
        elif opposite is not None and rng.random() < 0.6:
            pair = (strong, opposite)
        else:
            pair = (strong, deny(weak if rng.random() < 0.5 else strong))
    premise, hypothesis = pair
    assert entails(premise, hypothesis) == (label == 0)
    assert contradicts(premise, hypothesis) == (label == 2)
    return {
        "premise": render(rng, premise),
        "hypothesis": render(rng, paraphrase(rng, hypothesis), fronted=False),
        "label": label,
    }


def _rte(rng: Random) -> Example:
    """A text of two sentences that implies a third, or does not."""
    implied = rng.random() < 0.5
    strong, weak = _weakened(rng, 0.15, place=0.5, day=0.2, name=0.8)
    beside = event(rng, place=0, day=0, adjective=0, name=0.8)
    if implied:
        told, claim = strong, weak
    elif rng.random() < 0.3:
        told, claim = weak, strong
    else:
        told, claim = strong, corrupt(rng, weak, rng.choice((2, 2, 3)))
    if (entails(told, claim) or entails(beside, claim)) != implied:
        return _rte(rng)
    texts = [render(rng, told), render(rng, beside)]
    if rng.random() < 0.3:
        texts.reverse()
    return {
        "sentence1": f"{texts[0]} . {texts[1]} .",
        "sentence2": render(rng, paraphrase(rng, claim), fronted=False),
        "label": int(not implied),
    }


def _qnli(rng: Random) -> Example:
    """A question, and a sentence that answers it if it states the right event and the part asked for."""
    answers = rng.random() < 0.5
    told = event(rng, place=1, day=1, adjective=0.15, name=0.6)
    asked = rng.choice(list(ASKED))
    question = ask(rng, told, asked)
    for part in ("place", "day"):
        if ASKED[asked] != part and rng.random() < 0.5:
            told = with_part(told, part, None)
    if not answers:
        if asked in ("where", "when") and rng.random() < 0.5:
            told = with_part(told, ASKED[asked], None)
        else:
            parts = _mentioned(asked)
            told = _alter(rng, told, rng.sample(parts, min(len(parts), rng.choice((1, 2, 2)))))
    return {
        "question": question,
        "sentence": render(rng, paraphrase(rng, told)),
        "label": int(not answers),
    }


MAKERS: dict[str, Callable[[Random], Example]] = {
    "cola": cola,
    "sst2": sst2,
    "mrpc": _mrpc,
    "qqp": _qqp,
    "mnli": _mnli,
    "rte": _rte,
    "qnli": _qnli,
}
