"""Atomic writes: a file is absent, the old one, or complete."""

import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from remerge.errors import UserError

MODEL, DATA = "give a folder made by save_pretrained", "give a folder of .jsonl, .csv or .parquet files"
"""The remedies where a folder of a model, or of data, is missing."""

AGAIN = "download or save it again"
"""The remedy where a file of a model is damaged."""

PARTIAL = ".partial~"
"""The beginning of the names of files and folders being written; machine and process follow."""


def is_place(source: str) -> bool:
    """Whether a source of a model or data is a path on this machine, existing or not, and not a hub id."""
    return source[:1] in ("/", ".") or source.count("/") > 1


def check_folder(key: str, source: str, remedy: str) -> None:
    """Refuse a source that is a path on this machine, but no folder.

    Args:
        key: where the source is written.
        source: a folder, or a hub id.
        remedy: what to give instead.

    Raises:
        UserError: there is no such folder.
    """
    if is_place(source) and not Path(source).is_dir():
        raise UserError(f"{key}: {Path(source)}: no such folder: {remedy}")


def _partial(path: Path) -> str:
    # Of a long name only the beginning, as a file system limits the whole.
    return f"{PARTIAL}{socket.gethostname()}~{os.getpid()}~{path.name[:40]}."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Report in one line that something cannot be written, whichever library fails.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {cause}") from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):
            raise
        raise UserError(f"cannot write {path}: free some disk space, or allow writing") from error


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not by `tempfile`, whose files are for one user alone: the user's own mask says for whom ours are.
        temporary = path.with_name(f"{_partial(path)}{os.urandom(4).hex()}{path.suffix}")
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            _settle(temporary, mode)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_folder(folder: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` fill a folder that appears complete or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with writing(folder):
        # A link stays, and leads to what is written.
        place = folder.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=_partial(place)) as temporary:
            filled = Path(temporary) / place.name
            filled.mkdir()
            mode = filled.stat().st_mode
            save(filled)
            for file in filter(Path.is_file, filled.rglob("*")):
                _settle(file, mode)
            shutil.rmtree(place, ignore_errors=True)
            filled.rename(place)


def _settle(file: Path, mode: int) -> None:
    """Bring a written file onto the disk, with the permissions that the user's own mask gives.

    Safetensors' files are for one user alone; other members of a group would not read the results.
    """
    with file.open("rb") as written:
        os.fsync(written.fileno())
    # Some file systems know no permissions.
    with suppress(OSError):
        file.chmod(stat.S_IMODE(mode) & 0o666)


def nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def check_writable(folder: Path, room: int = 0) -> None:
    """Refuse a folder that cannot be written, before hours are spent on its contents.

    Args:
        folder: the folder, which need not exist yet.
        room: the bytes that must have room in it.

    Raises:
        UserError: it is read-only or full, or part of its path is not a folder.
    """
    # Nothing is created yet: a stage that fails leaves nothing behind.
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)) as file:
            file.write(bytes(room))
            file.flush()
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        UserError: its folder cannot be written.
    """
    with writing(path):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_with(path, write)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, record: Any) -> None:
    """Write one JSON document to ``path`` atomically."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that a stage made.

    Raises:
        UserError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that makes it") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file that came with a model.

    Raises:
        UserError: the file is missing, cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_bytes().decode())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}: {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): {AGAIN}") from None


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file that came with a model, of settings by name.

    Raises:
        UserError: the file is missing, is not JSON, or is something else than settings.
    """
    given = read_json(path)
    if not isinstance(given, dict):
        raise UserError(f"{path}: no settings by name: {AGAIN}")
    return given
