"""The number of weights of a model, from the headers of its files, without loading any."""

import math
from functools import cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open

from remerge.errors import UserError
from remerge.files import AGAIN, is_place, read_settings

FLOATS = ("F64", "F32", "F16", "BF16")
"""The floating-point dtypes, by their names in headers."""

WHOLE = ("model.safetensors", "adapter_model.safetensors", "linearised.safetensors")
"""The files of which each has all weights of a model or adapter."""

INDEX = "model.safetensors.index.json"
"""The file that names the shards of a model, and the tensors in each."""


@cache
def weights(source: str, revision: str | None = None) -> dict[str, tuple[int, str]]:
    """The number of entries of each floating-point tensor, and their dtype, by name.

    Args:
        source: a folder, or a hub id, whose files count only if all of them are in the cache.
        revision: commit or tag on the hub.

    Raises:
        UserError: a file is incomplete or damaged.
    """
    found: dict[str, tuple[int, str]] = {}
    for file in _files(source, revision):
        try:
            with safe_open(file, framework="numpy") as opened:
                tensors = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                sizes = {n: (math.prod(t.get_shape()), t.get_dtype()) for n, t in tensors.items()}
        except (SafetensorError, OSError) as error:
            raise damaged(file, error) from None
        found |= {name: (size, dtype) for name, (size, dtype) in sizes.items() if dtype in FLOATS}
    return found


def damaged(file: Path, error: Exception) -> UserError:
    """The error about a file of weights that cannot be read."""
    return UserError(f"{file}: incomplete or damaged ({error}): {AGAIN}")


def shards(index: Path) -> dict[str, str]:
    """The file of each tensor, by an index.

    Raises:
        UserError: it is not an index, or leads out of its folder.
    """
    places = read_settings(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"{index}: no weight_map: {AGAIN}")
    for place in places.values():
        if not isinstance(place, str) or Path(place).name != place or not place.endswith(".safetensors"):
            raise UserError(f"{index}: {place!r} is not a safetensors file beside it: {AGAIN}")
    return {str(name): str(place) for name, place in places.items()}


def _files(source: str, revision: str | None) -> list[Path]:
    """The safetensors of a model."""
    for name in WHOLE:
        if file := _file(source, revision, name):
            return [file]
    index = _file(source, revision, INDEX)
    names = sorted(set(shards(index).values())) if index else []
    files = [_file(source, revision, name) for name in names]
    return [file for file in files if file] if all(files) else []


def _file(source: str, revision: str | None, name: str) -> Path | None:
    if (local := Path(source) / name).is_file():
        return local
    if is_place(source):
        return None
    found = try_to_load_from_cache(source, name, revision=revision)
    return Path(found) if isinstance(found, str) else None
