"""YAML of a configuration as plain values: bounded in time and memory, no key twice, nothing executed."""

from collections import Counter
from typing import Any

import yaml

DEEPEST = 50
"""The deepest nesting of mappings and lists."""

LARGEST = 200_000
"""The largest number of values, counting those of an alias wherever it is used."""


class _Loader(yaml.SafeLoader):
    """The safe loader, with bounded depth, and no key twice in a mapping."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels of lists and mappings")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        _refuse_twice(node)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: Any) -> None:
        _refuse_twice(node)
        super().flatten_mapping(node)


def parsed(text: str) -> Any:
    """The one document in a text.

    Raises:
        YAMLError, ValueError: not one document, too large, too deep, a key twice, or an alias within itself.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > LARGEST:
            raise yaml.YAMLError(f"its aliases expand to more than {LARGEST} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: Any, known: dict[int, int]) -> int:
    """The number of values in a node, including those of aliases."""
    if id(node) not in known:
        known[id(node)] = -1
        inner = getattr(node, "value", ())
        pairs = isinstance(node, yaml.MappingNode)
        parts = [part for pair in inner for part in pair] if pairs else inner
        scalar = isinstance(node, yaml.ScalarNode)
        known[id(node)] = 1 + (0 if scalar else sum(_size(part, known) for part in parts))
    if known[id(node)] < 0:
        raise yaml.YAMLError("an alias contains itself")
    return known[id(node)]


def _refuse_twice(node: Any) -> None:
    # A key that was merged in by `<<` may be given again; from then on it occurs twice in the node itself.
    if not isinstance(node, yaml.MappingNode) or getattr(node, "looked_at", False):
        return
    node.looked_at = True  # type: ignore[attr-defined]
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for key, times in Counter(keys).items():
        if times > 1:
            line = [found for found, _ in node.value if found.value == key][1].start_mark.line
            raise yaml.YAMLError(f"the key {key!r} is given twice, again in line {line + 1}")
