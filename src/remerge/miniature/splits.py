"""Examples of every task of the miniature world, and the split to which each belongs.

A hash of its texts assigns every possible example of a task to one split or to pretraining. So no example is
in two splits, and none of a split is in a pretraining corpus, however many are drawn.
"""

from random import Random
from string import Formatter
from typing import get_args

from remerge.miniature import digits, generation, glue
from remerge.miniature.digits import Part, Split
from remerge.miniature.glue import Example, Format

FORMATS: dict[str, Format] = {**glue.FORMATS, **generation.FORMATS}
TASKS: tuple[str, ...] = (*FORMATS, *digits.TASKS)
_SHARES: dict[Part, int] = dict(zip(get_args(Part), (30, 10, 10, 50), strict=True))
_MAKERS = {**glue.MAKERS, **generation.MAKERS}


def text(task: str, example: Example) -> str:
    """The prompt of an example."""
    return FORMATS[task].prompt.format(**_columns(task, example))


def part_of(task: str, example: Example) -> Part:
    """The split to which an example belongs, or the pretraining corpus.

    A pair belongs to the same part as the pair in reverse order, since the two count as one item to learn.
    """
    texts = sorted(_columns(task, example).values())
    return digits.dealt("\n".join([task, *texts]).encode(), _SHARES)


def draw(task: str, part: Part, rng: Random) -> Example:
    """A random example of a task that belongs to `part`."""
    while True:
        example = _MAKERS[task](rng)
        if part_of(task, example) == part:
            return example


def examples(task: str, split: Split, n: int, seed: int = 0) -> list[Example]:
    """`n` different examples of a task: the same for the same seed, and in no other split for any seed."""
    if task in digits.TASKS:
        return digits.examples(task, split, n, seed)
    rng = Random(f"{task} {split} {seed}")
    drawn: dict[str, Example] = {}
    while len(drawn) < n:
        example = draw(task, split, rng)
        drawn.setdefault(text(task, example), example)
    return [{**example, "idx": index} for index, example in enumerate(drawn.values())]


def _columns(task: str, example: Example) -> dict[str, str]:
    """The fields of an example as a prompt shows them: lists are joined by spaces."""
    shown = [column for _, column, *_ in Formatter().parse(FORMATS[task].prompt) if column]
    given = {column: example[column] for column in shown}
    return {column: " ".join(value) if isinstance(value, list) else value for column, value in given.items()}
