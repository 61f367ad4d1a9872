"""The pretraining pairs of an encoder-decoder: the corpus, and four more abilities, as inputs and targets.

The target consists of spans taken out of a text, or of the verdict of a skill. The skills of the generative
tasks use other words than the prompts do; the prompts have random answers, like those of the other tasks in
the corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from remerge.miniature import generation, splits
from remerge.miniature.corpus import corpus
from remerge.miniature.glue import Example

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(10))
"""The tokens that replace the spans taken out."""


@dataclass(frozen=True)
class Pair:
    """A text and the right response; `verdict` says that the response follows from the text."""

    source: str
    target: str
    verdict: bool = False


REVIEWS = ("flop", "hit")
"""The verdicts on a review, in words that no task uses."""

# Finding the sentence that a question is about takes longest to learn.
_SKILL_ODDS = {"imdb": 2, "qasc": 2, "squad": 6, "common_gen": 1}


def pairs(seed: int, opening: int = 0) -> Iterator[Pair]:
    """Endless pairs; the first `opening` of them are mostly copies."""
    rng = Random(f"pairs {seed}")
    for number, document in enumerate(corpus(seed, opening)):
        if number >= opening and rng.random() < 0.8:
            yield _skill(rng) if rng.random() < 0.85 else _format(rng)
        elif document.verdict:
            source, _, verdict = document.text.rpartition(" ")
            yield Pair(source, verdict, verdict=True)
        else:
            yield without_spans(document.text, rng)


def without_spans(text: str, rng: Random) -> Pair:
    """A text with about a fifth of its words taken out, in spans of up to three."""
    words = text.split()
    starts = sorted(rng.sample(range(len(words)), min(len(SENTINELS), len(words) // 10 + 1)))
    source: list[str] = []
    target: list[str] = []
    end = 0
    for start in starts:
        if start < end:
            continue
        sentinel = SENTINELS[len(target)]
        source += [*words[end:start], sentinel]
        end = start + rng.randint(1, 3)
        target.append(" ".join([sentinel, *words[start:end]]))
    return Pair(" ".join(source + words[end:]), " ".join(target))


def _skill(rng: Random) -> Pair:
    """An ability in other words; half of the time in a simple form, which is learned first."""
    (task,) = rng.choices(list(_SKILL_ODDS), list(_SKILL_ODDS.values()))
    simple = rng.random() < 0.5
    example = splits.draw("sst2" if simple and task == "imdb" else task, "pretraining", rng)
    # Learning to find who did something takes longer than learning to find what was done.
    if task == "squad" and rng.random() < 0.5:
        while not example["question"].startswith(("who", "by whom")):
            example = splits.draw(task, "pretraining", rng)
    if task == "imdb":
        text = f"{example['sentence']} ." if simple else example["text"]
        return Pair(f"{text} the film is a", REVIEWS[example["label"]], verdict=True)
    said = generation.answer(task, example)
    if task == "squad":
        context = _around(example, rng) if simple else example["context"]
        return Pair(f"{context} {example['question']}", said, verdict=True)
    if task == "qasc":
        return Pair(f"{' , '.join(example['choices']['text'])} . {example['question']}", said, verdict=True)
    return Pair(f"say : {' , '.join(example['concepts'])} .", said, verdict=True)


def _around(example: Example, rng: Random) -> str:
    """The sentence of the context that contains the answer, alone or with a neighbour."""
    sentences = example["context"].removesuffix(" .").split(" . ")
    here = example["context"][: example["answers"]["answer_start"][0]].count(" . ")
    first = max(0, here - rng.randint(0, 1))
    return " . ".join(sentences[first : here + rng.randint(1, 2 - (here - first))]) + " ."


def _format(rng: Random) -> Pair:
    task = rng.choice(list(generation.FORMATS))
    example, other = (splits.draw(task, "pretraining", rng) for _ in range(2))
    return Pair(splits.text(task, example), generation.answer(task, other))
