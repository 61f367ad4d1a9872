"""Events and the sentences that describe them: the meaning of the miniature world.

An event is who did what to what, where and when. `render` expresses it in one of many ways (synonymous verbs,
active or passive, the place in front); `entails` and `contradicts` compare the meanings of two events,
whatever the words. The tasks take their labels from these two functions, never from the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from remerge.miniature.lexicon import (
    ADJECTIVES,
    ANTONYMS,
    BEINGS,
    DAYS,
    HYPERNYM,
    NAMES,
    OPPOSITE_ACTION,
    PLACES,
    SYNONYM,
    THINGS,
    VERBS,
    article,
)


@dataclass(frozen=True)
class NounPhrase:
    """A name (no determiner), or a noun with a determiner and perhaps an adjective."""

    noun: str
    determiner: str = ""
    adjective: str | None = None

    def __str__(self) -> str:
        words = [self.adjective, self.noun] if self.adjective else [self.noun]
        if self.determiner:
            words.insert(0, article(words[0]) if self.determiner == "a" else self.determiner)
        return " ".join(words)


@dataclass(frozen=True)
class Event:
    """Who (`agent`) did, or did not do, what (`action`) to what (`patient`), where and when."""

    agent: NounPhrase
    action: int
    patient: NounPhrase
    place: str | None = None
    day: str | None = None
    negated: bool = False


# --- drawing -------------------------------------------------------------------------------------


def noun_phrase(rng: Random, pool: Sequence[str], adjective: float, name: float) -> NounPhrase:
    """A random noun phrase, with the given probabilities of having an adjective and of being a name."""
    if rng.random() < name:
        return NounPhrase(rng.choice(NAMES))
    return NounPhrase(
        rng.choice(pool),
        rng.choice(("the", "a")),
        rng.choice(ADJECTIVES) if rng.random() < adjective else None,
    )


def event(
    rng: Random,
    *,
    place: float = 0.45,
    day: float = 0.25,
    adjective: float = 0.3,
    name: float = 0.5,
) -> Event:
    """A random event; the numbers are the probabilities of its optional parts."""
    agent = noun_phrase(rng, BEINGS, adjective, name)
    patient = agent
    while patient.noun == agent.noun:
        pool = THINGS if rng.random() < 0.8 else BEINGS
        patient = noun_phrase(rng, pool, adjective, 0.1)
    return Event(
        agent,
        rng.randrange(len(VERBS)),
        patient,
        rng.choice(PLACES) if rng.random() < place else None,
        rng.choice(DAYS) if rng.random() < day else None,
    )


def quantified_event(rng: Random) -> Event:
    """A random event whose agent is quantified by `every` or `some`."""
    drawn = event(rng, place=0.3, day=0.0, adjective=0.35, name=0.0)
    return replace(drawn, agent=replace(drawn.agent, determiner=rng.choice(("every", "some"))))


# --- saying --------------------------------------------------------------------------------------


def render(
    rng: Random,
    said: Event,
    *,
    synonym: int | None = None,
    passive: bool | None = None,
    fronted: bool | None = None,
) -> str:
    """Express an event in one sentence; choices that are not given are random.

    Sentences with quantified agents stay in the active voice, where their scope is clear.
    """
    verb = VERBS[said.action][rng.randrange(2) if synonym is None else synonym]
    if passive is None:
        passive = rng.random() < 0.35
    if passive and said.agent.determiner not in ("every", "some", "no"):
        auxiliary = "was not" if said.negated else "was"
        sentence = f"{said.patient} {auxiliary} {verb.participle} by {said.agent}"
    elif said.negated and said.agent.determiner == "some":
        sentence = f"{replace(said.agent, determiner='no')} {verb.past} {said.patient}"
    elif said.negated:
        sentence = f"{said.agent} did not {verb.base} {said.patient}"
    else:
        sentence = f"{said.agent} {verb.past} {said.patient}"
    when = f" on {said.day}" if said.day else ""
    if not said.place:
        return sentence + when
    if fronted is None:
        fronted = rng.random() < 0.15
    if fronted:
        return f"in the {said.place} {sentence}{when}"
    return f"{sentence} in the {said.place}{when}"


# --- comparing -----------------------------------------------------------------------------------


def _narrower(narrow: NounPhrase, wide: NounPhrase) -> bool:
    """Whether everything called `narrow` is also called `wide`, whatever the determiners."""
    noun = narrow.noun == wide.noun or HYPERNYM.get(narrow.noun) == wide.noun
    adjective = wide.adjective in (None, narrow.adjective) or (
        narrow.adjective is not None and SYNONYM.get(narrow.adjective) == wide.adjective
    )
    return noun and adjective


def _does_more(more: Event, less: Event) -> bool:
    """Whether doing what `more` says implies doing what `less` says, whoever the agents are."""
    return (
        more.action == less.action
        and _narrower(more.patient, less.patient)
        and less.place in (None, more.place)
        and less.day in (None, more.day)
    )


def entails(premise: Event, hypothesis: Event) -> bool:
    """Whether the hypothesis is true wherever the premise is.

    `a`, `the` and `some` all say that there is one; `every` says that there is one and that all do it. Two
    sentences with the same noun are about the same thing.
    """
    if premise.negated != hypothesis.negated:
        return False
    if premise.negated:
        return entails(replace(hypothesis, negated=False), replace(premise, negated=False))
    if not _does_more(premise, hypothesis):
        return False
    up = _narrower(premise.agent, hypothesis.agent)
    down = _narrower(hypothesis.agent, premise.agent)
    if hypothesis.agent.determiner == "every":
        return premise.agent.determiner == "every" and down
    return up or (premise.agent.determiner == "every" and down)


def contradicts(premise: Event, hypothesis: Event) -> bool:
    """Whether the two cannot both be true of one scene.

    Apart from negation, nothing is both big and small, loved and hated, in two places or on two days.
    """
    if premise.negated or hypothesis.negated:
        return entails(premise, replace(hypothesis, negated=not hypothesis.negated))
    if OPPOSITE_ACTION.get(hypothesis.action) == premise.action:
        reconciled = replace(hypothesis, action=premise.action)
    else:
        reconciled = hypothesis
    reconciled = replace(
        reconciled,
        agent=_reconciled(premise.agent, hypothesis.agent),
        patient=_reconciled(premise.patient, hypothesis.patient),
        place=premise.place if premise.place and hypothesis.place else hypothesis.place,
        day=premise.day if premise.day and hypothesis.day else hypothesis.day,
    )
    return entails(premise, reconciled) and not entails(premise, hypothesis)


def _reconciled(said: NounPhrase, other: NounPhrase) -> NounPhrase:
    """`other`, with the adjective of `said` if their adjectives are antonyms."""
    if said.adjective and other.adjective in ANTONYMS[said.adjective]:
        return replace(other, adjective=said.adjective)
    return other
