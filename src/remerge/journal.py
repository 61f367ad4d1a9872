"""The finished work of a run that was killed: records by key, appended one line at a time."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from remerge.errors import UserError
from remerge.files import remove, write_bytes
from remerge.notes import note
from remerge.variants import digest
from remerge.versions import versions


class Entry(BaseModel):
    """A line.

    Attributes:
        key: a digest of everything that the record was computed from.
        record: the computed record.
        versions: the versions of the packages that computed it.
        seal: the digest of all this, so that no altered number passes for a computed one.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    key: str
    record: JsonValue
    versions: dict[str, str]
    seal: str


class Journal:
    """Records on disk, each under a key that identifies everything it was computed from.

    A record is found again only under the same key, so a changed input or setting leads to a new computation.
    A line that was altered, or truncated by a kill, is dropped, and its record is computed again.

    Processes that share the work keep one file each, beside the main one: each reads what others
    finished and writes only its own, since network file systems do not order the writes of several processes.
    """

    def __init__(self, path: Path, kind: Any = Any, share: int | None = None) -> None:
        """Read the journal.

        Args:
            path: its file, which may not exist yet.
            kind: the type of its records.
            share: the number of this process, if it is one of several.
        """
        shares = shares_of(path)
        self.path = path if share is None else path.with_name(f"{path.stem}~{share}.jsonl")
        self.entries: dict[str, Entry] = {}
        self.broken = 0
        self._kind = TypeAdapter[Any](kind)
        self._whole: dict[str, bytes] = {}
        self._shares = shares if share is None else []
        for file in dict.fromkeys([path, *shares, self.path]):
            self._read(file, own=file in (self.path, *self._shares))

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The record under ``key``; if there is none, it is computed, and kept before this returns."""
        if key not in self.entries:
            said = {"key": key, "record": compute(), "versions": versions()}
            entry = Entry(**said, seal=digest(said))
            self._append(entry)
            self.entries[key] = entry
        return self.entries[key].record

    def settle(self) -> None:
        """Combine the main file and all shares, whose processes are done, into one without broken lines."""
        if self.broken or self._shares:
            write_bytes(self.path, b"".join(self._whole.values()))
            for file in self._shares:
                remove(file)
            self.broken, self._shares = 0, []

    def _read(self, file: Path, own: bool) -> None:
        """Read a file; a broken line in another process's file may still be being written."""
        lines = _lines(file)
        entries = [(line, entry) for line in lines if (entry := self._entry(line))]
        self.entries |= {entry.key: entry for _, entry in entries}
        if own:
            self._whole |= {entry.key: line for line, entry in entries}
            lost = len(lines) - len(entries)
            self.broken += lost
            if lost:
                said = f"{lost} of {len(lines)} lines are incomplete or were altered"
                note(f"{file}: {said}: they will be computed again")

    def _entry(self, line: bytes) -> Entry | None:
        """The entry in a line; None if the line is incomplete or was altered."""
        try:
            entry = Entry.model_validate_json(line)
            self._kind.validate_json(json.dumps(entry.record), strict=True)
        except ValueError:
            return None
        return entry if line.endswith(b"\n") and entry.seal == _sealed(entry) else None

    def _append(self, entry: Entry) -> None:
        if self.broken:
            self.settle()
        line = (json.dumps(entry.model_dump(), ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._whole[entry.key] = line


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def shares_of(path: Path) -> list[Path]:
    """The files beside a journal of the processes that share its work, in their order."""
    numbers = {file: file.stem.rpartition("~")[2] for file in path.parent.glob(f"{path.stem}~*.jsonl")}
    return sorted((file for file, n in numbers.items() if n.isdecimal()), key=lambda file: int(numbers[file]))


def _sealed(entry: Entry) -> str:
    return digest(entry.model_dump(exclude={"seal"}))
