"""Files without a record of their own: the notes beside them, written when they are made and checked later.

Data, references and statistics are tables and tensors. A `Made` beside each has the digest of its bytes
and of everything that it was made from.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from remerge.contents import changed_since, digest_of, of_model
from remerge.errors import Stale, UserError
from remerge.files import remove
from remerge.records import Made, Model
from remerge.variants import digest
from remerge.versions import versions


def make(results: Path, path: Path, follows: Mapping[str, str], write: Callable[[Path], None]) -> None:
    """Let ``write`` write a file, and note its contents and origins.

    Args:
        results: the folder of the benchmark.
        path: the file, in it.
        follows: the digest of each of its origins, by name.
        write: the function that writes the file.
    """
    what = str(path.relative_to(results))
    # A kill in between leaves a file without a note, not with another file's note.
    remove(Made.place(results, what=what))
    write(path)
    made = Made(what=what, digest=digest_of(path), follows=dict(follows), versions=versions())
    made.write(results, what=what)


def checked(results: Path, path: Path, follows: Mapping[str, str]) -> Path:
    """The file, about to be read.

    Args:
        results: the folder of the benchmark.
        path: the file, in it.
        follows: the origins that it must have.

    Raises:
        UserError: it is missing, or is not the one made here.
        Stale: it has other origins.
    """
    now, note = digest_of(path), Made.read(results, what=str(path.relative_to(results)))
    if now != note.digest:
        raise UserError(f"{path} was altered or replaced after it was made: delete it and run again")
    for name, part in follows.items():
        if note.follows.get(name) != part:
            raise Stale(f"{path} was made from other {name} than today's: delete it and run again")
    return path


def content_of(results: Path, model: str, source: str | None) -> str | None:
    """A digest of a local model; None for any other source.

    Its files are read only if they may have changed since they were recorded.
    """
    if not source or not Path(source).is_dir():
        return None
    folder = Path(source).resolve()
    try:
        known = Model.read(results, model=model)
        same = Path(known.path).resolve() == folder and known.inode == folder.stat().st_ino
        if same and not changed_since(folder, Model.place(results, model=model)):
            return known.content
    except UserError:
        pass  # It is made again.
    return digest(of_model(folder))
