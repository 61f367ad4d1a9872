"""What a killed run had finished: records by key, appended one line at a time."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from remerge.errors import UserError
from remerge.files import write_bytes
from remerge.variants import digest
from remerge.versions import versions


class Entry(BaseModel):
    """A line.

    Attributes:
        key: a digest of everything that the record was computed from.
        record: what was computed.
        versions: of the packages that computed it.
        seal: the digest of all this, so that no altered number is taken for a computed one.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    key: str
    record: JsonValue
    versions: dict[str, str]
    seal: str


class Journal:
    """Records on disk, each under a key that says exactly what it was computed from.

    A record is found again only under the same key, so a changed input or setting computes anew. A line
    that is not as it was written, cut short by a kill or altered, is dropped, and what it held is computed
    again.
    """

    def __init__(self, path: Path, kind: Any = Any) -> None:
        """Read the journal.

        Args:
            path: where it lies, or will.
            kind: the type of its records.
        """
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._kind = TypeAdapter[Any](kind)
        self._whole: list[bytes] = []
        lines = self._lines()
        for line in lines:
            if entry := self._entry(line):
                self.entries[entry.key] = entry
                self._whole.append(line)
        self.broken = len(lines) - len(self._whole)
        if self.broken:
            lost = f"{self.broken} of {len(lines)} lines are not as they were written"
            print(f"remerge: {path}: {lost}: dropped, to be computed again", file=sys.stderr)

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The record under ``key``; computed, and kept before this returns, if there is none."""
        if key not in self.entries:
            said = {"key": key, "record": compute(), "versions": versions()}
            entry = Entry(**said, seal=digest(said))
            self._append(entry)
            self.entries[key] = entry
        return self.entries[key].record

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}") from error

    def _entry(self, line: bytes) -> Entry | None:
        """What a line says; None if it is not as it was written."""
        try:
            entry = Entry.model_validate_json(line)
            self._kind.validate_json(json.dumps(entry.record), strict=True)
        except ValueError:
            return None
        return entry if line.endswith(b"\n") and entry.seal == _sealed(entry) else None

    def _append(self, entry: Entry) -> None:
        if self.broken:
            write_bytes(self.path, b"".join(self._whole))
            self.broken = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(entry.model_dump(), ensure_ascii=False, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error


def _sealed(entry: Entry) -> str:
    return digest(entry.model_dump(exclude={"seal"}))
