"""Where the tensors of a merge are: in which slice of a file, how deep in it, and where in each model."""

from collections.abc import Iterable

from remerge.deltas import layer_of
from remerge.folders.mergekit.file import Asked, Slice


def layer_in(name: str) -> tuple[str, int] | None:
    """The stack of layers that a tensor is in, and the number of its layer; None outside of layers."""
    stack, _, number = layer_of(name).rpartition(".")
    return (stack, int(number)) if number.isdigit() else None


def in_layer(name: str, layer: int) -> str:
    """The name of the same tensor in another layer."""
    own = layer_of(name)
    return f"{own.rpartition('.')[0]}.{layer}{name[len(own) :]}"


def anywhere(name: str) -> str:
    """What the names of one tensor in all layers have in common."""
    return in_layer(name, 0) if layer_in(name) else name


class Places:
    """Where tensors are.

    Args:
        asked: what a file asks for.
        names: the names of all tensors, in the order of the model.

    Attributes:
        after: those that follow the layers.
    """

    def __init__(self, asked: Asked, names: Iterable[str]) -> None:
        self.slices = asked.slices
        self._base = asked.named_base
        self.after = set[str]()
        self._ends: dict[str, int] = {}
        for name in names:
            if found := layer_in(name):
                stack, layer = found
                self._ends[stack] = max(self._ends.get(stack, 0), layer + 1)
            elif self._ends:
                self.after.add(name)

    def slice(self, name: str) -> Slice:
        """The slice of a tensor: the first for those before the layers, the last for those after."""
        found = layer_in(name)
        if found is None:
            return self.slices[-1 if name in self.after else 0]
        return next(s for s in self.slices if s.last is None or found[1] < s.last)

    def models(self, name: str) -> list[str]:
        """The models that mergekit merges where a tensor is, in its order: it adds a base to models."""
        own = self.slice(name)
        added = [self._base] if own.last is None and self._base is not None else []
        return [*dict.fromkeys([*own.starts, *added])]

    def has(self, model: str, name: str) -> bool:
        """Whether a model is listed where a tensor is."""
        return model in self.slice(name).starts

    def depth(self, name: str) -> float:
        """How deep a tensor is in its slice, from 0 to 1, as mergekit has it: 0 outside of layers."""
        found = layer_in(name)
        if found is None:
            return 0.0
        stack, layer = found
        own = self.slice(name)
        others = (self._ends[stack] if own.last is None else own.last) - own.first - 1
        return (layer - own.first) / others if others else 1.0

    def name_in(self, model: str, name: str) -> str:
        """The name of a tensor in a model that is merged there."""
        found, own = layer_in(name), self.slice(name)
        if found is None:
            return name
        return in_layer(name, found[1] - own.first + own.starts.get(model, own.first))
