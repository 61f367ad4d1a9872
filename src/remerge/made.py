"""Files that carry no record of their own: what is noted beside them when they are made, and checked.

Data, references and statistics are tables and tensors. A `Made` beside each holds the digest of its bytes,
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
    """Let ``write`` write a file, and note what it holds.

    Args:
        results: the folder of the benchmark.
        path: the file, in it.
        follows: what it is made from, each by a digest.
        write: writes the file.
    """
    what = str(path.relative_to(results))
    # A kill in between leaves a file without a note, not one with another file's.
    remove(Made.place(results, what=what))
    write(path)
    made = Made(what=what, digest=digest_of(path), follows=dict(follows), versions=versions())
    made.write(results, what=what)


def checked(results: Path, path: Path, follows: Mapping[str, str]) -> Path:
    """The file, about to be read.

    Args:
        results: the folder of the benchmark.
        path: the file, in it.
        follows: what it must have been made from.

    Raises:
        UserError: it is missing, or is not the one that was made here.
        Stale: it was made from something else.
    """
    now, note = digest_of(path), Made.read(results, what=str(path.relative_to(results)))
    if now != note.digest:
        raise UserError(f"{path} was altered or replaced after it was made: delete it and run again")
    for name, part in follows.items():
        if note.follows.get(name) != part:
            raise Stale(f"{path} was made from other {name} than today's: delete it and run again")
    return path


def content_of(results: Path, model: str, source: str | None) -> str | None:
    """A digest of a local model; None of any other source.

    Its files are read only where they may have changed since they were recorded.
    """
    if not source or not Path(source).is_dir():
        return None
    folder = Path(source).resolve()
    try:
        known = Model.read(results, model=model)
        if Path(known.path).resolve() == folder and not changed_since(
            folder, Model.place(results, model=model)
        ):
            return known.content
    except UserError:
        pass  # It is made again.
    return digest(of_model(folder))
