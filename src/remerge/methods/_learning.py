"""How coefficients are learned: the parameters that all objectives share, besides their own."""

from dataclasses import dataclass
from typing import Annotated, Literal

from remerge.methods._parameters import Range, Scale
from remerge.variants import inputs_of, start_of

Level = Literal["task", "layer"]
"""One coefficient for each expert, or for each expert and layer."""

Answer = Literal["mean", "sum"]
"""The loss of an answer: over its tokens."""

Count = Annotated[int, Range(1)]


@dataclass(frozen=True, kw_only=True)
class Learning:
    """The settings of `remerge.learn.fit` (DivMerge, Table 9; its learning rates are lost).

    Attributes:
        level: one coefficient per expert (TL), or per expert and layer (LL).
        over: the method that prepares the task vectors, with its parameters, such as ``ties`` or
            ``drm_h@density=0.5``; ``none`` for the vectors themselves (DivMerge, Remark 3).
        learning_rate: Adam's learning rate.
        initial: the starting value of every coefficient.
        epochs: passes over the inputs; the default depends on the objective.
        inputs: unlabelled inputs of each task; None means 200 at task level, 400 at layer level.
        replaced: the share of them that stand-ins replace, for a task with too few inputs (DivMerge,
            A.3): it bounds the total variation between the inputs used for learning and the task's own.
        stand_ins: the task's own inputs with their words shuffled, or those of the next task.
        answer: whether an answer's loss is the mean or the sum over its tokens (DivMerge, B.1, where the
            formula is lost); the same where it is one token, or, as for AdaMerging, that of the first.
    """

    level: Level = "task"
    over: str = "none"
    learning_rate: Annotated[float, Range(0, 10, open="(")] = 0.01
    initial: Scale | Literal["1/T"] = 0.5
    epochs: Count = 1
    inputs: Count | None = None
    replaced: Annotated[float, Range(0, 1)] = 0.0
    stand_ins: Literal["shuffled", "other"] = "shuffled"
    answer: Answer = "mean"

    def start(self, experts: int) -> float:
        """The starting value of the coefficients for this number of experts."""
        return start_of(self.initial, experts)

    @property
    def size(self) -> int:
        """The number of inputs of each task."""
        return inputs_of(self.inputs, self.level)
