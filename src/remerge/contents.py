"""SHA-256 digests of files, which show whether a file was altered or replaced after it was made."""

import hashlib
from functools import cache
from pathlib import Path

from remerge.errors import UserError

BESIDE = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja")
"""The files besides weights that a model is loaded from: configuration and tokenizer."""


def digest_of(path: Path) -> str:
    """The digest of a file's bytes, as printed by `sha256sum`; no file is read twice in a process.

    A file that was replaced since is read again, even with the same size and time: the time of
    its last change of state cannot be set.

    Raises:
        UserError: it is missing or cannot be read.
    """
    try:
        state = path.stat()
        return _read(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that makes it") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def of_model(folder: Path, weights: bool = True) -> dict[str, str]:
    """The digest of each file that a model may be loaded from, by its name in the folder.

    Args:
        folder: the model's folder.
        weights: whether to include its weights, which are large; heads of tasks always are included.
    """
    patterns = [*BESIDE, "heads/*.safetensors", *(["*.safetensors"] if weights else [])]
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    return {str(file.relative_to(folder)): digest_of(file) for file in files}


def of_source(source: str) -> dict[str, str]:
    """The digest of each file of a local source of data, by name; empty for any other source."""
    return {file.name: digest_of(file) for file in sorted(Path(source).glob("*")) if file.is_file()}


def changed_since(folder: Path, record: Path) -> bool:
    """Whether anything in a folder may have changed after a record of it was written.

    Another folder that came there because one above it was renamed is told by its number, `Model.inode`.
    """
    files = [folder, *folder.glob("*"), *folder.glob("heads/*")]
    return any(file.stat().st_ctime_ns >= record.stat().st_mtime_ns for file in files)


@cache
def _read(path: Path, *state: int) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
