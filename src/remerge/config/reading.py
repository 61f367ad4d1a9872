"""Read and check a configuration file, with one clear line if it is wrong."""

import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from remerge.config._yaml import parsed
from remerge.config.benchmark import Config
from remerge.errors import UserError, cause_of

INCLUDE = "include"
"""The key under which a configuration names the file that it builds on."""

YTE = "__use_yte__"
"""The key that makes Snakemake treat a configuration as a program."""

Layer = tuple[str, dict[str, Any]]
"""What gives some keys of a configuration, a file or the command line, and these keys."""

LONGEST = 1_000_000
"""The largest file in bytes; the longest here has 25,000."""


def validate(raw: Any, where: Path) -> Config:
    """A whole configuration from parsed YAML; paths are relative to the file ``where``.

    Raises:
        UserError: the first fault, by its key.
    """
    return _checked(_layers(raw, where, []), where)


def load(*paths: Path, over: Mapping[str, Any] | None = None) -> Config:
    """Read and check a configuration file, or several, each overriding the one before.

    Args:
        paths: the files.
        over: keys that override them.

    Raises:
        UserError: one is missing, not YAML, or wrong; the message names the key.
    """
    layers: list[Layer] = []
    for path in paths:
        _check_letters(path)
        layers += _layers(read_yaml(path), path, [])
    if over:
        *below, (_, given) = _layers(dict(over), paths[-1], [])
        layers += [*below, ("--config", given)]
    return _checked(layers, paths[-1])


def _checked(layers: Sequence[Layer], where: Path) -> Config:
    whole = reduce(_laid_over, [own for _, own in layers])
    if YTE in whole:
        raise UserError(f"{where}: {YTE}: a configuration runs no code: leave the key out")
    try:
        config = Config.model_validate(whole)
    except ValidationError as error:
        said = _said_by(layers, error.errors()[0]["loc"]) or where
        raise UserError(f"{said}: {' '.join(_first_line(error).split())}") from None
    for variant in config.merge.variants:
        if not re.fullmatch(r"[A-Za-z0-9_.,=@+-]{1,200}", variant.name):
            raise UserError(
                f"{where}: merge.variants: {variant.name[:60]!r} cannot name a folder: correct its parameters"
            )
    return config


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain values.

    Raises:
        UserError: it cannot be read, is too long for a configuration, or is not YAML.
    """
    try:
        with path.open("rb") as file:
            read = file.read(LONGEST + 1)
        if len(read) > LONGEST:
            raise UserError(f"{path}: longer than {LONGEST:,} bytes: give a configuration")
        return parsed(read.decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8: save it in that encoding") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not YAML: {cause_of(error)}") from None


def _said_by(layers: Sequence[Layer], location: Sequence[str | int]) -> str | None:
    """What gave the value at a place of the configuration, or at the nearest place around it."""
    places = [location[:depth] for depth in range(len(location), 0, -1)]
    return next((said for place in places for said, own in reversed(layers) if _holds(own, place)), None)


def _holds(node: Any, place: Sequence[str | int]) -> bool:
    try:
        for step in place:
            node = node[step]
    except (LookupError, TypeError):
        return False
    return True


def _layers(raw: Any, where: Path, through: list[Path]) -> list[Layer]:
    """The keys of the file that a file includes, then its own, which override them.

    Raises:
        UserError: it is not a mapping, or files include one another in a circle.
    """
    if not isinstance(raw, dict):
        raise UserError(f"{where}: not a mapping of keys: give a configuration")
    own: dict[str, Any] = _placed({key: value for key, value in raw.items() if key != INCLUDE}, where)
    if INCLUDE not in raw:
        return [(str(where), own)]
    if not isinstance(raw[INCLUDE], str) or "\0" in raw[INCLUDE]:
        raise UserError(f"{where}: {INCLUDE}: name one file, relative to this one")
    through, below = [*through, where.resolve()], where.parent / raw[INCLUDE]
    if below.resolve() in through:
        raise UserError(f"{where}: {INCLUDE}: {raw[INCLUDE]} includes this file again: leave one out")
    return [*_layers(read_yaml(below), below, through), (str(where), own)]


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """A mapping overridden by another, and the mappings in it likewise; lists are replaced."""
    laid = dict(below)
    for key, value in above.items():
        old = laid.get(key)
        laid[key] = _laid_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return laid


def dump(config: Config) -> str:
    """The configuration as YAML with every default written out, with paths from the benchmark's folder."""
    # The results may be a link to another disk: a path with `..` begins where the link leads.
    there = config.folder.resolve()

    def from_there(key: str, source: str) -> str:
        return os.path.relpath(source, there) if source.startswith("./") else source

    raw = _with_sources(config.model_dump(mode="json"), from_there)
    own = raw["methods"]
    raw["methods"] = [file if os.path.isabs(file) else os.path.relpath(file, there) for file in own]
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def _placed(raw: Any, where: Path) -> Any:
    """Local sources relative to the file's folder: a path begins with `.`, `/` or `~`, any other is a hub id.

    Paths in the working directory are relative to it, so that no result depends on where it is.
    """

    def from_here(key: str, source: str) -> str:
        place, here = _place(key, source, where), Path.cwd()
        return f"./{place.relative_to(here)}" if place.is_relative_to(here) else str(place)

    def local_from_here(key: str, source: str) -> str:
        return from_here(key, source) if source[:1] in (".", "/", "~") else source

    raw = _with_sources(raw, local_from_here)
    if isinstance(raw.get("methods"), list):
        raw["methods"] = [from_here("methods", str(file)) for file in raw["methods"]]
    if isinstance(raw.get("rules"), list):
        # Snakemake would take them relative to its own file.
        raw["rules"] = [str(_place("rules", str(file), where)) for file in raw["rules"]]
    return raw


def _with_sources(raw: Any, change: Callable[[str, str], str]) -> Any:
    """The configuration with every source of a base, task or expert changed."""
    if isinstance(raw, dict):
        return {
            key: change(key, value)
            if key in ("source", "expert") and isinstance(value, str)
            else _with_sources(value, change)
            for key, value in raw.items()
        }
    return [_with_sources(item, change) for item in raw] if isinstance(raw, list) else raw


def _check_letters(path: Path) -> None:
    """Refuse a path that Python and the libraries written in other languages would not spell alike."""
    encoding = sys.getfilesystemencoding()
    if encoding != "utf-8" and not str(path.absolute()).isascii():
        raise UserError(f"{path.absolute()}: Python takes names of files for {encoding}: set PYTHONUTF8=1")


def _place(key: str, written: str, where: Path) -> Path:
    _check_letters(Path(written))
    try:
        place = (where.parent / Path(written).expanduser()).resolve()
        place.exists()  # raises if the name is too long for the file system
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{where}: {key}: {written[:60]!r} cannot be a path ({error}): correct it") from None
    return place


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
    quoted = ": put true and false in quotes" if isinstance(first["input"], bool) else ""
    return f"{where}: {message}, not {str(first['input'])[:60]!r}{quoted}"
