"""Writing and reading records: checked against their class, and refused by file, line and key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from remerge.errors import UserError
from remerge.files import read_bytes, write_json
from remerge.variants import digest

MEASURED = ("seconds", "memory")
"""Keys that no seal covers: they differ when a record is made again."""


class Part(BaseModel):
    """A part of a record: unknown keys, other types and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Record(Part):
    """A record: a file of its own, or one line of a file.

    Attributes:
        seal: the digest of everything else except measured keys, so that no altered number passes for a
            computed one; None in records of earlier versions.
    """

    seal: str | None = None

    file: ClassVar[str]
    """The file below a benchmark's results, with a field for each part of its key."""

    @classmethod
    def place(cls, results: Path, **key: str | int) -> Path:
        """The file of one record."""
        return Path(results) / cls.file.format(**key)

    @classmethod
    def read(cls, results: Path, **key: str | int) -> Self:
        """The record in a file.

        Args:
            results: the folder of a benchmark.
            key: the fields of the file's name, and any other values that the record must have.

        Raises:
            UserError: the file is missing or wrong, or the record has other values.
        """
        path = cls.place(results, **key)
        return cls._checked(read_bytes(path), str(path), key)

    @classmethod
    def read_lines(cls, results: Path, **key: str | int) -> list[Self]:
        """The records in a file, one per line.

        Args:
            results: the folder of a benchmark.
            key: the fields of the file's name, and any other values that each line must have.

        Raises:
            UserError: the file is missing, or a line is wrong or has other values.
        """
        path = cls.place(results, **key)
        lines = enumerate(read_bytes(path).splitlines(), 1)
        return [cls._checked(line, f"{path}, line {number}", key) for number, line in lines]

    def write(self, results: Path, **key: str | int) -> None:
        """Write the record into a file."""
        write_json(self.place(results, **key), self.sealed())

    def sealed(self) -> dict[str, Any]:
        """The record with its seal, as it is written."""
        said = self.model_dump(mode="json", exclude_unset=True, exclude={"seal"})
        return {**said, "seal": _seal(said)}

    @classmethod
    def _checked(cls, text: bytes, where: str, key: Mapping[str, str | int]) -> Self:
        try:
            record = cls.model_validate_json(text.decode())
        except UnicodeDecodeError:
            raise UserError(f"{where} is not UTF-8: delete the file and run again") from None
        except ValidationError as error:
            raise UserError(f"{where} {_fault(error)}: delete the file and run again") from None
        if record.seal is not None and record.seal != _seal(json.loads(text)):
            raise UserError(f"{where} was altered after it was written: delete the file and run again")
        for name in key.keys() & cls.model_fields.keys():
            if (found := getattr(record, name)) not in (None, key[name]):
                raise UserError(
                    f"{where} has {name} {found!r}, not {key[name]!r}: delete the file and run again"
                )
        return record


def _seal(said: Mapping[str, Any]) -> str:
    return digest({name: value for name, value in said.items() if name not in (*MEASURED, "seal")})


def _fault(error: ValidationError) -> str:
    """The first fault of a record, as the rest of a sentence."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        return "is not JSON"
    if first["type"] == "missing":
        return f"has no {key}"
    if first["type"] == "extra_forbidden":
        return f"has an unknown key {key}"
    if not key:
        return "is not a record"
    return f"has a wrong {key} ({first['msg']}, not {str(first['input'])[:40]!r})"
