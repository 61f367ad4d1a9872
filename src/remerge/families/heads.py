"""Heads: each task has its own. They are never merged, and each input goes to its own task's head."""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

from remerge.errors import UserError
from remerge.families import placed

ABSENT = -1e4
"""The logit of a class that a task lacks, in a batch with heads of several widths: its probability is exactly
zero, but its logarithm is finite."""


class ByTask(nn.ModuleDict):
    """Modules by the names of tasks; its parent refuses those of its own attributes, such as `type`."""

    def __setitem__(self, task: str, module: nn.Module) -> None:
        self._modules[task] = module


class Heads(nn.Module):
    """The heads of several tasks, in place of a single head.

    Attributes:
        template: the head that they replace.
        route: the task of each row of the next input.
    """

    def __init__(self, template: nn.Module) -> None:
        super().__init__()
        self.heads = ByTask()
        self.route: list[str] = []
        # Inside a tuple it is not a submodule, so its weights are not among the parameters.
        # In half precision, a body's logits would be rounded, and classes often equal.
        self._template = (template.float(),)

    @property
    def template(self) -> nn.Module:
        """The head that these replace."""
        return self._template[0]

    def add(self, task: str, tensors: Mapping[str, Tensor]) -> None:
        """Add a task's head: the template with these tensors, whatever their number of classes.

        Raises:
            UserError: a tensor is missing, or made for a body of another width.
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
        """Apply each row's head to ``[B, …, m]``: ``[B, …, C]`` for the widest, padded with `ABSENT`."""
        parts = {}
        for task, rows in _rows(tuple(self.route), x.device).items():
            parts[task] = rows, self.heads[task](x[rows].float())
        first = next(iter(parts.values()))[1]
        width = max(y.shape[-1] for _, y in parts.values())
        whole: Tensor = first.new_full((len(x), *first.shape[1:-1], width), ABSENT)
        for rows, y in parts.values():
            whole[rows, ..., : y.shape[-1]] = y
        return whole


@cache
def _rows(route: tuple[str, ...], device: torch.device) -> dict[str, Tensor]:
    """The rows of each task; never freed, since a step recorded on a GPU reads them where they are."""
    rows = {task: [i for i, t in enumerate(route) if t == task] for task in route}
    return {task: placed(torch.tensor(some), device) for task, some in rows.items()}


def route(model: nn.Module, tasks: list[str]) -> None:
    """Set the task of each row of the next input."""
    for module in model.modules():
        if isinstance(module, Heads):
            module.route = tasks
