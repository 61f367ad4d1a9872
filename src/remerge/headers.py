"""The number of weights of a model, from the headers of its files, without loading any."""

import json
import math
from functools import cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from remerge.errors import UserError
from remerge.files import is_place

FLOATS = ("F64", "F32", "F16", "BF16")
"""The floating-point dtypes, by their names in headers."""

WHOLE = ("model.safetensors", "adapter_model.safetensors", "linearised.safetensors")
INDEX = "model.safetensors.index.json"


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
            with file.open("rb") as opened:
                header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
            for name, tensor in header.items():
                if (dtype := tensor.get("dtype")) in FLOATS:
                    found[name] = math.prod(tensor["shape"]), dtype
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
            raise UserError(f"{file}: incomplete or damaged: download or save it again") from None
    return found


def _files(source: str, revision: str | None) -> list[Path]:
    """The safetensors of a model."""
    for name in WHOLE:
        if file := _file(source, revision, name):
            return [file]
    index = _file(source, revision, INDEX)
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values())) if index else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: no weight_map: download or save it again") from None
    files = [_file(source, revision, str(name)) for name in names]
    return [file for file in files if file] if all(files) else []


def _file(source: str, revision: str | None, name: str) -> Path | None:
    if (local := Path(source) / name).is_file():
        return local
    if is_place(source):
        return None
    found = try_to_load_from_cache(source, name, revision=revision)
    return Path(found) if isinstance(found, str) else None
