"""The units of which the work of jobs consists: models loaded, inputs read, scored, answered, learned from.

What a unit takes comes from other modules: `remerge.estimate` guesses it, `remerge.machine` measures it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit that a job repeats.

    Attributes:
        kind: ``load`` a model, ``read`` an example, ``score`` a task's inputs, ``answer`` them, ``train`` or
            ``fit`` for a step, ``merge`` experts, take an input's ``fisher``, ``grams`` or ``scatters``,
            ``pretrain`` the base for a step.
        of: the task or method.
        experts: the number of experts in the merge.
        inputs: the number of inputs that go through a model.
        passes: the number of their forward passes.
        backward: whether there are as many backward passes.
    """

    kind: str
    of: str = ""
    experts: int = 0
    inputs: int = 0
    passes: int = 0
    backward: bool = False


Work = Counter[Unit]
"""The number of times that each unit is done."""

NOTHING = Work()
"""The work of a job that runs no model."""

LOAD = Unit("load")
"""Loading a model from its files."""

ANSWER = 8
"""Tokens that an answer in words is assumed to have."""


@dataclass(frozen=True)
class Extent:
    """The size of a task.

    Attributes:
        train: the number of its training examples.
        validation: the number of its validation examples.
        test: the number of its test examples.
        answer: the tokens of its longest answer, including the end token; 1 for classes.
    """

    train: int
    validation: int
    test: int
    answer: int
