"""The joint benchmark (KnOTS, Stoica et al., 2025): each input is judged among the labels of several tasks.

Unlike judging among a task's own labels, this also requires a merged model to distinguish the tasks.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Labels = Mapping[str, Sequence[str]]
"""The answers of several tasks; their classes are concatenated in this order."""


def numbers(labels: Labels) -> dict[str, Tensor]:
    """For each task, the number of each class's label, ``[C_t]``: labels with the same text are one label."""
    texts = dict.fromkeys(text for answers in labels.values() for text in answers)
    number = {text: k for k, text in enumerate(texts)}
    return {task: torch.tensor([number[text] for text in answers]) for task, answers in labels.items()}


def right(labels: Labels, task: str, logits: Tensor, targets: Tensor) -> Tensor:
    """Whether the most likely class of all tasks has the label of the input's own class, ``[B]``.

    Args:
        labels: the tasks' answers.
        task: the task of the inputs, one of them.
        logits: the logits of the classes of all tasks, concatenated, ``[B, sum_t C_t]``.
        targets: the inputs' classes in their own task, ``[B]``.
    """
    number = {task: of_task.to(logits.device) for task, of_task in numbers(labels).items()}
    every = torch.cat([*number.values()])
    return every[logits.argmax(dim=1)] == number[task][targets]
