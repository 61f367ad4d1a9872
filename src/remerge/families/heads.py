"""Heads: what each task owns alone. They are never merged; every input is read by its own task's."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from remerge.errors import UserError

ABSENT = -1e4
"""The logit of a class that a task lacks where heads of several widths stand side by side: its probability is
exactly zero, its logarithm still finite."""


class Heads(nn.Module):
    """The heads of several tasks in the place of one.

    Attributes:
        template: the one whose place they take.
        route: the task of each row of the next input.
    """

    def __init__(self, template: nn.Module) -> None:
        super().__init__()
        self.heads = nn.ModuleDict()
        self.route: list[str] = []
        # In a tuple it is no submodule: its weights are nobody's parameters.
        self._template = (template,)

    @property
    def template(self) -> nn.Module:
        """The head whose place these take."""
        return self._template[0]

    def add(self, task: str, tensors: Mapping[str, Tensor]) -> None:
        """A task's head: the template with these tensors, whatever its width.

        Raises:
            UserError: a tensor is missing, or was made for a body of another width.
        """
        head = deepcopy(self.template)
        for name, parameter in head.named_parameters():
            given = tensors.get(name)
            if given is None or given.shape[1:] != parameter.shape[1:]:
                found = (
                    "missing" if given is None else f"{list(given.shape)}, the base's {list(parameter.shape)}"
                )
                raise UserError(
                    f"the head of {task}: {name} is {found}: give the head of an expert of this base"
                )
            parameter.data = given.to(parameter.device, parameter.dtype)
        self.heads[task] = head.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, …, m]`` through each row's head: ``[B, …, C]`` for the widest of them, `ABSENT` beyond."""
        parts = {}
        for task in dict.fromkeys(self.route):
            rows = torch.tensor([i for i, t in enumerate(self.route) if t == task], device=x.device)
            parts[task] = rows, self.heads[task](x[rows])
        first = next(iter(parts.values()))[1]
        width = max(y.shape[-1] for _, y in parts.values())
        whole: Tensor = first.new_full((len(x), *first.shape[1:-1], width), ABSENT)
        for rows, y in parts.values():
            whole[rows, ..., : y.shape[-1]] = y
        return whole


def route(model: nn.Module, tasks: list[str]) -> None:
    """Say which task each row of the next input belongs to."""
    for module in model.modules():
        if isinstance(module, Heads):
            module.route = tasks
