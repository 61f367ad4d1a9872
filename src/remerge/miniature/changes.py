"""Changes of events: to the same meaning in other words, to less, to the opposite, or to something else."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from remerge.miniature.grammar import Event, NounPhrase, entails
from remerge.miniature.lexicon import (
    ADJECTIVES,
    ANTONYMS,
    BEINGS,
    CLASSES,
    DAYS,
    HYPERNYM,
    NAMES,
    OPPOSITE_ACTION,
    PLACES,
    SYNONYM,
    THINGS,
    VERBS,
)

T = TypeVar("T")


def another(rng: Random, pool: Sequence[T], *avoid: T) -> T:
    """A random member of `pool` that is not among `avoid`."""
    while (chosen := rng.choice(pool)) in avoid:
        pass
    return chosen


def with_part(said: Event, part: str, value: Any) -> Event:
    """The event with one named part replaced."""
    return replace(said, **{part: value})


def deny(said: Event) -> Event:
    """The negation of an event; for an event with `every`, it says that none did it."""
    agent = said.agent
    if agent.determiner == "every":
        agent = replace(agent, determiner="some")
    return replace(said, agent=agent, negated=True)


def paraphrase(rng: Random, said: Event) -> Event:
    """The same event with some adjectives replaced by synonyms."""

    def reword(phrase: NounPhrase) -> NounPhrase:
        if phrase.adjective in SYNONYM and rng.random() < 0.6:
            return replace(phrase, adjective=SYNONYM[phrase.adjective])
        return phrase

    return replace(said, agent=reword(said.agent), patient=reword(said.patient))


def weaken(rng: Random, said: Event) -> Event | None:
    """An event that says strictly less (by one or two steps), or None if none was found."""
    result = said
    for _ in range(rng.choice((1, 1, 2))):
        steps = _weaker(rng, result)
        if not steps:
            break
        result = rng.choice(steps)
    return result if result != said else None


def _weaker(rng: Random, said: Event) -> list[Event]:
    """All events one step weaker than this affirmative one."""
    agent, patient = said.agent, said.patient
    steps = [replace(said, patient=wider) for wider in _wider(patient)]
    if agent.determiner == "every":
        steps += [replace(said, agent=replace(agent, determiner="some"))] * 2
        if agent.adjective is None:
            steps.append(replace(said, agent=replace(agent, adjective=rng.choice(ADJECTIVES))))
        if agent.noun in CLASSES:
            below = rng.choice(CLASSES[agent.noun])
            steps += [replace(said, agent=replace(agent, noun=below))] * 2
    else:
        steps += [replace(said, agent=wider) for wider in _wider(agent)]
    if said.place:
        steps.append(replace(said, place=None))
    if said.day:
        steps.append(replace(said, day=None))
    return steps


def _wider(phrase: NounPhrase) -> list[NounPhrase]:
    steps = []
    if phrase.adjective:
        steps.append(replace(phrase, adjective=None))
    if phrase.noun in HYPERNYM:
        determiner = "some" if phrase.determiner == "some" else "a"
        steps.append(replace(phrase, noun=HYPERNYM[phrase.noun], determiner=determiner))
    return steps


def oppose(rng: Random, said: Event) -> Event | None:
    """An affirmative event that cannot be true together with this one, or None."""
    steps = []
    for part in ("agent", "patient"):
        phrase: NounPhrase = getattr(said, part)
        if phrase.adjective and phrase.determiner not in ("every", "some"):
            turned = replace(phrase, adjective=rng.choice(ANTONYMS[phrase.adjective]))
            steps.append(with_part(said, part, turned))
    if said.place:
        steps.append(replace(said, place=another(rng, PLACES, said.place)))
    if said.day:
        steps.append(replace(said, day=another(rng, DAYS, said.day)))
    if said.action in OPPOSITE_ACTION:
        steps.append(replace(said, action=OPPOSITE_ACTION[said.action]))
    return rng.choice(steps) if steps else None


def swap_roles(said: Event) -> Event:
    """The event with agent and patient swapped."""
    return replace(said, agent=said.patient, patient=said.agent)


def with_another(rng: Random, said: Event, part: str) -> Event:
    """The event with another action, agent or patient; names replace names, and adjectives stay."""
    if part == "action":
        return replace(said, action=another(rng, range(len(VERBS)), said.action))
    phrase: NounPhrase = getattr(said, part)
    pool = (BEINGS if part == "agent" else THINGS) if phrase.determiner else NAMES
    noun = another(rng, pool, said.agent.noun, said.patient.noun)
    return with_part(said, part, replace(phrase, noun=noun))


def corrupt(rng: Random, said: Event, changes: int) -> Event:
    """Another event, made by a few changes, that still shares most of its words with this one."""
    result = said
    while entails(said, result) or entails(result, said):
        result = said
        for _ in range(changes):
            result = _change(rng, result)
    return result


def _change(rng: Random, said: Event) -> Event:
    """Make one change to an event, twice as often to action, agent or patient as anywhere else."""
    parts = ["action", "patient", "agent"] * 2 + ["roles"]
    parts += [part for part in ("place", "day") if getattr(said, part)]
    parts += ["adjective"] if said.agent.adjective or said.patient.adjective else []
    part = rng.choice(parts)
    if part == "roles":
        return swap_roles(said)
    if part == "place":
        return replace(said, place=another(rng, PLACES, said.place))
    if part == "day":
        return replace(said, day=another(rng, DAYS, said.day))
    if part == "adjective":
        part = rng.choice([p for p in ("agent", "patient") if getattr(said, p).adjective])
        phrase: NounPhrase = getattr(said, part)
        assert phrase.adjective
        turned = replace(phrase, adjective=rng.choice(ANTONYMS[phrase.adjective]))
        return with_part(said, part, turned)
    return with_another(rng, said, part)
