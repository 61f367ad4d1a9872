"""How a record is written and read: checked against its class, refused by its file, line and key."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from remerge.errors import UserError
from remerge.files import write_json


class Part(BaseModel):
    """A part of a record: unknown keys, other types and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Record(Part):
    """What stands in a file of its own, or in one line of a file."""

    file: ClassVar[str]
    """The file below a benchmark's results, with a field for each thing that tells it from the others."""

    @classmethod
    def place(cls, results: Path, **key: str | int) -> Path:
        """The file of one record."""
        return Path(results) / cls.file.format(**key)

    @classmethod
    def read(cls, results: Path, **key: str | int) -> Self:
        """The record in a file.

        Raises:
            UserError: the file is missing or wrong.
        """
        path = cls.place(results, **key)
        return cls._checked(_bytes(path), str(path))

    @classmethod
    def read_lines(cls, results: Path, **key: str | int) -> list[Self]:
        """The records in a file, one a line.

        Raises:
            UserError: the file is missing, or a line is wrong.
        """
        path = cls.place(results, **key)
        lines = enumerate(_bytes(path).splitlines(), 1)
        return [cls._checked(line, f"{path}, line {number}") for number, line in lines]

    def write(self, results: Path, **key: str | int) -> None:
        """Write the record into a file."""
        write_json(self.place(results, **key), self.model_dump(mode="json", exclude_unset=True))

    @classmethod
    def _checked(cls, text: bytes, where: str) -> Self:
        try:
            return cls.model_validate_json(text.decode())
        except UnicodeDecodeError:
            raise UserError(f"{where} is not UTF-8: delete the file and run again") from None
        except ValidationError as error:
            raise UserError(f"{where} {_fault(error)}: delete the file and run again") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the stage that makes it") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _fault(error: ValidationError) -> str:
    """The first thing that is wrong with a record, as the rest of a sentence."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        return "is not JSON"
    if first["type"] == "missing":
        return f"has no {key}"
    if first["type"] == "extra_forbidden":
        return f"has a key {key} that no record has"
    if not key:
        return "is not a record"
    return f"has a wrong {key} ({first['msg']}, not {str(first['input'])[:40]!r})"
