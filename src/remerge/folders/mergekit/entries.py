"""The entries of a mergekit file: mappings with known keys, lists, and the models that they name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from remerge.errors import UserError


def list_in(where: Path, key: str, value: Any) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list) or not value:
        each = "`sources`: its models" if key == "slices" else "`model: folder or hub id`"
        raise UserError(f"{where}: {key}: must be a list of {key.rpartition('.')[2]}, each {each}")
    return value


def check_keys(where: Path, key: str, entry: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse a key that is not known."""
    if odd := [name for name in map(str, entry) if name not in known]:
        raise UserError(f"{where}: {key}: unknown key {min(odd)}, known: {', '.join(known)}")


def mapping_in(where: Path, key: str, value: Any) -> dict[str, Any]:
    """A mapping; an empty one if there is nothing."""
    if not isinstance(value, dict | None):
        raise UserError(f"{where}: {key}: must be a mapping of keys, not {str(value)[:60]!r}")
    return dict(value or {})


def place_of(source: str) -> Path | str:
    """What tells a model from others, however it is written."""
    return Path(source).resolve() if Path(source).is_dir() else source


def source_in(where: Path, key: str, value: Any) -> str:
    """A folder or hub id, as a text or in mergekit's long form, in which + and @ are letters of a name."""
    source = value
    if isinstance(value, dict):
        given = {part: own for part, own in value.items() if own is not None}
        inner = given.get("model")
        if given.keys() == {"model"} and isinstance(inner, dict) and inner.keys() <= {"path", "revision"}:
            source = inner.get("path")
            if source and inner.get("revision"):
                source = f"{source}@{inner['revision']}"
    if not isinstance(source, str) or not source:
        raise UserError(f"{where}: {key}: must be a folder or hub id, not {str(value)[:60]!r}")
    if "+" in source and source is value:
        raise UserError(
            f"{where}: {key}: {value}: give the adapter alone: `remerge merge` adds it to its base; "
            "or write {model: {path: …}} if a folder's name has a +"
        )
    return source
