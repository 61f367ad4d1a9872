"""The tasks of single sentences: whether one is acceptable (cola), and whether it praises (sst2)."""

from random import Random
from typing import Any

from remerge.miniature.lexicon import (
    ADJECTIVES,
    ASPECTS,
    BEINGS,
    BLAME,
    DISLIKED,
    LIKED,
    NOUNS,
    PLACES,
    PRAISE,
    THINGS,
    VERBS,
    Verb,
    article,
    plural,
)

# --- cola: agreement and word order --------------------------------------------------------------

_FORMS = ("plain", "negated", "passive", "perfect", "reflexive")
_VIOLATIONS = ("agreement", "agreement", "determiner", "order", "order", "omission", "repetition")


def cola(rng: Random) -> dict[str, Any]:
    """An acceptable sentence in the present tense, or one with a single violation."""
    violation = None if rng.random() < 0.5 else rng.choice(_VIOLATIONS)
    many = rng.random() < 0.5
    form = rng.choice(_FORMS)
    determiners = ("the", "these", "those", "some") if many else ("the", "this", "that", "every", "a")
    noun = rng.choice(BEINGS)
    subject = _phrase(rng, rng.choice(determiners), plural(noun) if many else noun, 0.4)
    if violation == "determiner":
        subject[0] = rng.choice(("this", "that", "every") if many else ("these", "those", "many"))
    if rng.random() < 0.3:  # a distractor between the subject and its verb
        near = rng.choice(NOUNS)
        subject += [rng.choice(("near", "behind", "beside")), "the"]
        subject += [rng.choice((near, plural(near)))]
    verb = rng.choice(rng.choice(VERBS))
    marked_plural = many != (violation == "agreement")
    thing = _phrase(rng, rng.choice(("the", "a")), rng.choice(THINGS), 0.3)
    predicate = _predicate(form, verb, many, marked_plural, thing)
    words = subject + predicate
    if rng.random() < 0.3:
        words += ["in", "the", rng.choice(PLACES)]
    start, end = len(subject), len(subject) + len(predicate)
    if violation == "order":
        first = rng.choice((0, start - 1, start, rng.randrange(len(words) - 1)))
        words[first], words[first + 1] = words[first + 1], words[first]
    elif violation == "omission":
        del words[rng.choice(_needed(form, start, end, len(thing)))]
    elif violation == "repetition":
        # A doubled adjective or adverb can pass for emphasis.
        firm = [i for i, word in enumerate(words) if word not in ADJECTIVES and word != "often"]
        repeated = rng.choice(firm)
        words.insert(repeated, words[repeated])
    return {"sentence": " ".join(words), "label": int(violation is None)}


def _predicate(form: str, verb: Verb, many: bool, marked_plural: bool, thing: list[str]) -> list[str]:
    """The predicate of a subject, one or many; its verb may be marked for another number than its own."""
    if form == "plain":
        return [verb.base if marked_plural else verb.present, *thing]
    if form == "negated":
        return ["do" if marked_plural else "does", "not", verb.base, *thing]
    if form == "passive":
        return ["are" if marked_plural else "is", verb.participle, "by", *thing]
    if form == "perfect":
        return ["have" if marked_plural else "has", verb.participle, *thing]
    return ["often", verb.base if marked_plural else verb.present, "themselves" if many else "itself"]


def _phrase(rng: Random, determiner: str, noun: str, adjective: float) -> list[str]:
    words = [rng.choice(ADJECTIVES), noun] if rng.random() < adjective else [noun]
    return [article(words[0]) if determiner == "a" else determiner, *words]


def _needed(form: str, start: int, end: int, thing: int) -> list[int]:
    """The positions of words that are necessary in a sentence of this form."""
    if form == "reflexive":
        return [start + 1, end - 1]
    needed = [end - thing, end - 1]  # the determiner and the noun of the object
    # Without its auxiliary, a sentence in the perfect may still be correct in the past tense.
    return needed if form == "perfect" else [start, *needed]


# --- sst2: sentiment with negation ---------------------------------------------------------------


def sst2(rng: Random) -> dict[str, Any]:
    """One or two clauses of a review; if two disagree, the main clause decides."""
    good = rng.random() < 0.5
    shape = rng.random()
    if shape < 0.35:
        sentence = opinion(rng, good)
    elif shape < 0.55:
        sentence = f"{opinion(rng, good)} and {opinion(rng, good)}"
    elif shape < 0.75:
        sentence = f"{opinion(rng, not good)} but {opinion(rng, good)}"
    elif shape < 0.88:
        sentence = f"although {opinion(rng, not good)} , {opinion(rng, good)}"
    else:
        sentence = f"{opinion(rng, good)} although {opinion(rng, not good)}"
    return {"sentence": sentence, "label": int(good)}


def opinion(rng: Random, good: bool) -> str:
    """A clause of praise or blame, with a word of that polarity or a negated word of the other."""
    negated = rng.random() < 0.4
    praising = good != negated
    aspect = rng.choice(ASPECTS)
    if rng.random() < 0.2:
        who = "nobody" if negated else rng.choice(("we", "critics", "everyone"))
        return f"{who} {rng.choice(LIKED if praising else DISLIKED)} the {aspect}"
    degree = rng.choice(("", "", "", "very ", "really ", "quite "))
    judgement = degree + rng.choice(PRAISE if praising else BLAME)
    if negated:
        negation = rng.choice(("not", "never", "hardly", "far from", "anything but"))
        return f"the {aspect} is {negation} {judgement}"
    if rng.random() < 0.5:
        return f"the {aspect} is {judgement}"
    return f"it is {article(judgement)} {judgement} {aspect}"
