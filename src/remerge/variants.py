"""Merge methods with parameters: their names, written and read, and defaults that depend on other values."""

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from math import floor, log, prod
from typing import Any

TUNE = "tune"
"""The key of a parameter's values to choose from: ``density: {tune: [0.1, 0.2]}``."""

MOST_POINTS = 10_000
"""The largest grid that is tried in full, or whose points are all checked beforehand."""

UNPREPARED = ("", "none")
"""In place of the name of a method that prepares task vectors: they are left as they are."""

PLAIN = re.compile(r"[A-Za-z0-9_.+-]+")
"""The values that appear unchanged in the name of a folder."""


def name_of(method: str, params: Mapping[str, Any]) -> str:
    """A variant's folder: ``ties``, ``ties@density=0.1,scale=1.2``, ``ties@scope=tensor,tuned``.

    A mapping, or a word that cannot name a folder, appears as a digest; tuned parameters do not appear.
    """
    words = [f"{key}={_word(params[key])}" for key in sorted(params) if not is_tuned(params[key])]
    words += ["tuned"] if len(words) < len(params) else []
    return f"{method}@{','.join(words)}" if words else method


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """The method, and the parameters that the name shows; ``tuned`` is True if some are tuned."""
    method, _, written = name.partition("@")
    params: dict[str, Any] = {}
    for pair in filter(None, written.split(",")):
        key, equals, value = pair.partition("=")
        params[key] = value_of(value) if equals else True
    return method, params


def tuned(params: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """The lists of values to choose from, by the keys to each: ``scale: {cola: {tune: [0, 1]}}``."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            inner = {(): value[TUNE]} if set(value) == {TUNE} else tuned(value)
            found |= {(key, *keys): values for keys, values in inner.items()}
    return found


def is_tuned(value: Any) -> bool:
    """Whether a parameter's value, or a part of it, is a list to choose from."""
    return bool(tuned({"": value}))


class Grid:
    """Every combination of the values to choose from, in order; one, which is empty, if there are none.

    Points are made when they are read: a search may have more than memory holds.

    Args:
        params: a variant's parameters.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = {key: value for key, value in params.items() if is_tuned(value)}
        self._values = tuned(params)

    @property
    def sizes(self) -> list[int]:
        """The number of values of each choice."""
        return [len(values) for values in self._values.values()]

    @property
    def size(self) -> int:
        """The number of points."""
        return prod(self.sizes)

    def point(self, k: int) -> dict[str, Any]:
        """The tuned parameters at a point."""
        chosen = {}
        for keys, values in reversed(self._values.items()):
            k, place = divmod(k, len(values))
            chosen[keys] = values[place]
        return _filled(self._params, chosen)

    @property
    def sample(self) -> list[dict[str, Any]]:
        """All points; of a grid that is too large, as many as have every value."""
        if self.size <= MOST_POINTS:
            return [self.point(k) for k in range(self.size)]
        turns = range(max(self.sizes))
        every = [{keys: v[turn % len(v)] for keys, v in self._values.items()} for turn in turns]
        return [_filled(self._params, chosen) for chosen in every]


def _filled(params: Mapping[str, Any], chosen: Mapping[tuple[str, ...], Any], *above: str) -> dict[str, Any]:
    """Parameters with the chosen values in the places of lists."""
    made = {}
    for key, value in params.items():
        if (keys := (*above, key)) in chosen:
            made[key] = chosen[keys]
        else:
            made[key] = _filled(value, chosen, *keys) if isinstance(value, Mapping) else value
    return made


def digest(*parts: Any) -> str:
    """A short digest of exactly these values."""
    text = json.dumps(parts, sort_keys=True, default=lambda part: part.model_dump(mode="json"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def inputs_of(inputs: int | None, level: str) -> int:
    """The number of inputs of each task from which coefficients are learned: by default, more for layers."""
    return inputs or (200 if level == "task" else 400)


def population_of(choices: int) -> int:
    """The number of trials from which CMA-ES learns at a time (Hansen, 2016, arXiv:1604.00772, Eq. 48)."""
    return 4 + floor(3 * log(choices))


def start_of(initial: float | str, experts: int) -> float:
    """The starting value of the coefficients of a number of experts; ``1/T`` is that of their average."""
    return 1 / experts if initial == "1/T" else float(initial)


def value_of(written: str) -> Any:
    """A parameter's value: a number, a list, True, False or None; anything else is a word."""
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_word, value))
    return str(value) if PLAIN.fullmatch(str(value)) else digest(value)[:8]
