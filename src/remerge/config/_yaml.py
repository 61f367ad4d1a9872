"""YAML of a configuration as plain values: bounded in time and memory, no key twice, nothing executed."""

import re
from collections import Counter
from typing import Any

import yaml

DEEPEST = 50
"""The deepest nesting of mappings and lists."""

LARGEST = 200_000
"""The largest number of values, counting those of an alias wherever it is used."""


PLAIN = (
    ("null", "~|null|Null|NULL|", ["~", *"nN", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", [*"-+0123456789"]),
    ("float", r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?", [*"-+0123456789."]),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+."]),
    ("merge", "<<", ["<"]),
)
"""Values that are no text without quotes: a kind, how it is written, and the letters that it may begin with.

YAML 1.1 also takes yes and on for switches, 010 for 8, 1:30 for 90, 1_0 for 10, and makes dates of texts.
Nothing is a value here that is a text to PyYAML, so that what it writes is read as it was.
"""

TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
"""PyYAML's names for texts and for ``<<``."""


class _Loader(yaml.SafeLoader):
    """The safe loader, with bounded depth, no key twice in a mapping, and texts as they are written."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"more than {DEEPEST} levels of lists and mappings")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        _read_keys(node)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: Any) -> None:
        _read_keys(node)
        super().flatten_mapping(node)


# Nothing that JSON has not: no bytes, sets or dates, which other tags make.
_Loader.yaml_constructors = {
    tag: make
    for tag, make in _Loader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}
_Loader.yaml_implicit_resolvers = {}
for _kind, _written, _first in PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"({_written})\Z"), _first)


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


def _read_keys(node: Any) -> None:
    """Take keys for texts, as they are written, and refuse one that is there twice."""
    # A key that was merged in by `<<` may be given again; from then on it occurs twice in the node itself.
    if not isinstance(node, yaml.MappingNode) or getattr(node, "looked_at", False):
        return
    node.looked_at = True  # type: ignore[attr-defined]
    for key, times in Counter(key.value for key, _ in node.value if _is_plain(key)).items():
        if times > 1:
            line = [found for found, _ in node.value if found.value == key][1].start_mark.line
            raise yaml.YAMLError(f"the key {key!r} is given twice, again in line {line + 1}")
    node.value = [(_as_text(key) if _is_plain(key) else key, value) for key, value in node.value]


def _is_plain(key: Any) -> bool:
    return isinstance(key, yaml.ScalarNode)


def _as_text(key: Any) -> Any:
    """A key's node as a text's, but for ``<<``; not the same node, which may be a value elsewhere."""
    if key.tag == MERGE:
        return key
    return yaml.ScalarNode(TEXT, key.value, key.start_mark, key.end_mark, key.style)
