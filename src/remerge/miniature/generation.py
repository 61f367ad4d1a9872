"""Four tasks with answers in free text, in the columns of the public datasets.

`imdb` judges a whole review, `qasc` asks for facts of the lexicon, `squad` for a part of a story, and
`common_gen` for the one plain sentence that can be made from the given words.
"""

from collections.abc import Callable
from random import Random

from remerge.miniature.changes import paraphrase
from remerge.miniature.glue import ASKED, Example, Format, ask
from remerge.miniature.grammar import Event, event, render
from remerge.miniature.lexicon import (
    ADJECTIVES,
    ANTONYMS,
    BEINGS,
    BLAME,
    CLASSES,
    DAYS,
    HYPERNYM,
    NAMES,
    NOUNS,
    PLACES,
    PRAISE,
    SYNONYM,
    THINGS,
    VERBS,
    Verb,
    article,
)
from remerge.miniature.sentences import opinion

LETTERS = tuple("ABCDEFGH")

FORMATS: dict[str, Format] = {
    "imdb": Format("review : {text} answer :", ("negative", "positive")),
    "qasc": Format("quiz : {formatted_question} answer :", ()),
    "squad": Format("context : {context} | question : {question} answer :", ()),
    "common_gen": Format("concepts : {concepts} answer :", ()),
}
"""The prompts; for tasks without fixed answers, `answer` gives the answer to each example."""


def answer(task: str, example: Example) -> str:
    """The right answer to an example, in words."""
    if task == "qasc":
        choices = example["choices"]
        return str(choices["text"][choices["label"].index(example["answerKey"])])
    if task == "squad":
        return str(example["answers"]["text"][0])
    return str(example["target"]) if task == "common_gen" else FORMATS[task].answers[example["label"]]


# --- imdb: the verdict in a review ---------------------------------------------------------------

VERDICTS = ("overall ,", "all in all ,", "in the end ,")


def _imdb(rng: Random) -> Example:
    """Remarks of both polarities and a verdict, which alone decides the label."""
    good = rng.random() < 0.5
    remarks = [_remark(rng, good == (rng.random() < 0.6)) for _ in range(rng.randint(2, 5))]
    verdict = f"{rng.choice(VERDICTS)} {opinion(rng, good)}"
    remarks.insert(0 if rng.random() < 0.25 else len(remarks), verdict)
    return {"text": " . ".join(remarks) + " .", "label": int(good)}


def _remark(rng: Random, good: bool) -> str:
    kind = rng.random()
    if kind < 0.6:
        return opinion(rng, good)
    if kind < 0.8:
        return f"{opinion(rng, not good)} but {opinion(rng, good)}"
    return f"although {opinion(rng, not good)} , {opinion(rng, good)}"


# --- qasc: facts of the lexicon ------------------------------------------------------------------


def _qasc(rng: Random) -> Example:
    """A question that two facts of the lexicon answer, with eight choices."""
    asked, right, wrong, facts = rng.choice(_QUIZZES)(rng)
    choices = [right, *rng.sample(wrong, len(LETTERS) - 1)]
    rng.shuffle(choices)
    listed = " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    return {
        "question": asked,
        "choices": {"text": choices, "label": list(LETTERS)},
        "answerKey": LETTERS[choices.index(right)],
        "fact1": facts[0],
        "fact2": facts[1],
        "formatted_question": f"{asked} {listed}",
    }


# A question, the right choice, the wrong ones to draw from, and two facts.
_Quiz = tuple[str, str, list[str], tuple[str, str]]


def _member(rng: Random) -> _Quiz:
    """A question for a noun of a given kind."""
    noun = rng.choice(NOUNS)
    kind, told = HYPERNYM[noun], f"{rng.choice(NAMES)} {_handle(rng).past} {article(noun)} {noun}"
    question = rng.choice((f"which thing is {article(kind)} {kind} ?", f"what is a kind of {kind} ?"))
    return question, noun, [other for other in NOUNS if HYPERNYM[other] != kind], (_kind(noun), told)


def _class(rng: Random) -> _Quiz:
    """A question for the kind of a noun, or of the thing in an event."""
    noun, who, verb = rng.choice(THINGS), rng.choice(NAMES), _handle(rng)
    kind, told = HYPERNYM[noun], f"{who} {verb.past} {article(noun)} {noun}"
    question = rng.choice(
        (
            f"what kind of thing is {article(noun)} {noun} ?",
            f"{told} . what kind of thing did {who} {verb.base} ?",
        )
    )
    return question, kind, [other for other in CLASSES if other != kind], (_kind(noun), told)


def _handle(rng: Random) -> Verb:
    return rng.choice(rng.choice(VERBS))


def _kind(noun: str) -> str:
    return f"{article(noun)} {noun} is a kind of {HYPERNYM[noun]}"


def _synonym(rng: Random) -> _Quiz:
    """A question for a synonym of an adjective."""
    word = rng.choice(list(SYNONYM))
    right = SYNONYM[word]
    wrong = [other for other in ADJECTIVES if other not in (word, right)]
    facts = f"{word} means {right}", f"{word} is the opposite of {ANTONYMS[word][0]}"
    return f"what means {word} ?", right, wrong, facts


def _antonym(rng: Random) -> _Quiz:
    """A question for the antonym of an adjective."""
    word = rng.choice(list(SYNONYM))
    right, again = rng.sample(ANTONYMS[word], 2)
    wrong = [other for other in ADJECTIVES if other not in (word, right, again)]
    facts = f"{word} is the opposite of {again}", f"{again} means {right}"
    return f"what is the opposite of {word} ?", right, wrong, facts


def _verb(rng: Random) -> _Quiz:
    """A question for a synonym of a verb."""
    pair = rng.choice(VERBS)
    word, right = rng.sample([verb.base for verb in pair], 2)
    wrong = [verb.base for other in VERBS if other != pair for verb in other]
    facts = f"to {word} means to {right}", f"to {right} means to {word}"
    return f"what does to {word} mean ?", right, wrong, facts


def _polar(rng: Random) -> _Quiz:
    """A question for a word of praise or blame."""
    good = rng.random() < 0.5
    right, wrong = (PRAISE, BLAME) if good else (BLAME, PRAISE)
    word, meaning = rng.choice(right), "good" if good else "bad"
    facts = f"{word} means {meaning}", f"{rng.choice(wrong)} means {'bad' if good else 'good'}"
    return f"what means {meaning} ?", word, list(wrong), facts


_QUIZZES: tuple[Callable[[Random], _Quiz], ...] = (_member, _class, _synonym, _antonym, _verb, _polar)


# --- squad: a part of a story --------------------------------------------------------------------


def _squad(rng: Random) -> Example:
    """Three to five events, a question about one of them, and the words that answer it."""
    told: list[Event] = []
    length = rng.randint(3, 5)
    while len(told) < length:
        said = event(rng, place=0.7, day=0.4, adjective=0.2, name=0.7)
        # The question names an action, so only one event may have it.
        if all(said.action != other.action for other in told):
            told.append(said)
    sentences = [render(rng, said) for said in told]
    about = rng.randrange(len(told))
    known = [asked for asked, part in ASKED.items() if getattr(told[about], part)]
    asked = rng.choice(known)
    part = getattr(told[about], ASKED[asked])
    span = f"the {part}" if asked == "where" else str(part)
    before = "".join(f"{sentence} . " for sentence in sentences[:about])
    return {
        "context": " . ".join(sentences) + " .",
        "question": ask(rng, paraphrase(rng, told[about]), asked),
        "answers": {
            "text": [span],
            "answer_start": [len(before) + f" {sentences[about]} ".index(f" {span} ")],
        },
    }


# --- common_gen: a sentence from given words -----------------------------------------------------


def _common_gen(rng: Random) -> Example:
    """Three to five words that make a plain sentence in only one way, and that sentence."""
    agent, verb = rng.choice(BEINGS), _handle(rng)
    patient = rng.choice([noun for noun in THINGS if noun not in BEINGS])
    place, day, adjective = rng.choice(PLACES), rng.choice(DAYS), rng.choice(ADJECTIVES)
    optional = rng.sample((place, day, adjective), rng.randint(0, 2))
    owner = f"{adjective} {agent}" if adjective in optional else agent
    target = f"the {owner} {verb.past} {article(patient)} {patient}"
    target += f" in the {place}" if place in optional else ""
    target += f" on {day}" if day in optional else ""
    # Sorted, so that the same words are the same example.
    return {"concepts": sorted([agent, verb.base, patient, *optional]), "target": target}


MAKERS: dict[str, Callable[[Random], Example]] = {
    "imdb": _imdb,
    "qasc": _qasc,
    "squad": _squad,
    "common_gen": _common_gen,
}
