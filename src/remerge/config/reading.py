"""Read a configuration file and check it, with one clear line if it is wrong."""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from remerge.config.sections import Config
from remerge.errors import UserError


def validate(raw: Any, where: Path) -> Config:
    """A whole configuration from parsed YAML; paths are taken relative to the file ``where``.

    Raises:
        UserError: the first thing that is wrong, by its key.
    """
    try:
        if not isinstance(raw, dict):
            raise UserError(f"{where}: not a mapping of keys")
        config = Config.model_validate(_absolute(raw, where.parent))
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(error)}") from None
    for variant in config.merge.variants:
        if not re.fullmatch(r"[A-Za-z0-9_.,=@+-]+", variant.name):
            raise UserError(f"{where}: merge.variants: {variant.name!r} cannot name a folder")
    return config


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        UserError: it is missing, not YAML, or wrong; the message names the key.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return validate(raw, path)


def dump(config: Config) -> str:
    """The configuration with every default written out, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def check_methods(config: Config) -> None:
    """Check every variant's parameters and sizes; this imports the methods, and with them torch.

    Raises:
        UserError: an unknown parameter, a value out of range, or more experts than a method takes.
    """
    from remerge.methods import find

    for variant in config.merge.variants:
        method = find(variant.method)
        method.settings(variant.params)
        count = method.needs.experts
        if count and config.sizes != [count]:
            raise UserError(
                f"merge.variants: {method.name} merges {count} experts: set merge.sizes to [{count}]"
            )


def _absolute(raw: Any, folder: Path) -> Any:
    """Local sources made absolute: a path begins with `.`, `/` or `~`, all else is a hub id."""

    def resolved(key: str, value: Any) -> Any:
        if key in ("source", "expert") and isinstance(value, str) and value[:1] in (".", "/", "~"):
            return str((folder / Path(value).expanduser()).resolve())
        return _absolute(value, folder)

    if isinstance(raw, dict):
        return {key: resolved(key, value) for key, value in raw.items()}
    return [_absolute(item, folder) for item in raw] if isinstance(raw, list) else raw


def _keys_of(location: tuple[str | int, ...]) -> list[str]:
    """The keys known at a place of the configuration."""
    schema = Config.model_json_schema()
    node: Any = schema
    for step in location:
        by_key = node.get("properties", {})
        any_key = node.get("additionalProperties") or [*node.get("patternProperties", {}).values()]
        node = by_key.get(step) or node.get("items") or any_key
        node = node[0] if isinstance(node, list) else node
        node = node["anyOf"][0] if "anyOf" in node else node
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    return list(node.get("properties", {}))


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    location, message = first["loc"], first["msg"].removeprefix("Value error, ")
    where = ".".join(map(str, location))
    if first["type"] == "extra_forbidden":
        known = _keys_of(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)[0]
        return f"unknown key {where}, the nearest known is {near} (of {', '.join(known)})"
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error" or not location:
        return f"{where}: {message}" if location else message
    return f"{where}: {message}, not {str(first['input'])[:60]!r}"
