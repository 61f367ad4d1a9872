"""What a killed run had finished: records by key, appended one line at a time."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remerge.errors import UserError


class Journal:
    """Records on disk, each under a key that says exactly what it was computed from.

    A record is found again only under the same key, so a changed input or setting computes anew. A line
    cut short by a kill is dropped when the file is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Any] = {}
        whole = b""
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                self.records[entry["key"]] = entry["record"]
                whole += line
            if len(whole) < path.stat().st_size:
                os.truncate(path, len(whole))

    def recall(self, key: str, compute: Callable[[], Any]) -> Any:
        """The record under ``key``; computed, and kept before this returns, if there is none."""
        if key not in self.records:
            record = compute()
            self._append({"key": key, "record": record})
            self.records[key] = record
        return self.records[key]

    def _append(self, entry: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
