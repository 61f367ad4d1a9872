"""What a mergekit file says about tokens: whose the merge has, and where rows of embeddings come from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remerge.errors import UserError
from remerge.folders.mergekit.entries import check_keys, mapping_in, source_in

OF_ALL, OF_THE_BASE = "union", "base"
"""The sources of tokens that are no single model."""

ZERO, OF_A_TOKEN = "zero", "model_token"
"""The kinds of a token's source."""


@dataclass(frozen=True)
class Row:
    """The row of a token that a file names.

    Attributes:
        model: the model that it is taken from; None for zeros.
        token: the token there, or its number; the same token if None.
        force: whether models that have the token take this row, too.
    """

    model: str | None
    token: str | int | None
    force: bool


@dataclass(frozen=True)
class Tokens:
    """The tokens that a file asks for.

    Attributes:
        source: those of all models, of the base, or of the model of this name.
        rows: the tokens of which it names the row.
        multiple: the number of rows is a multiple of this.
    """

    source: str
    rows: Mapping[str, Row]
    multiple: int

    @property
    def model(self) -> str | None:
        """The model whose tokens they are, if it is not the base."""
        return None if self.source in (OF_ALL, OF_THE_BASE) else self.source

    def written(self, name: Callable[[str], Any]) -> dict[str, Any]:
        """What mergekit reads under ``tokenizer``, with other names of models."""
        made: dict[str, Any] = {"source": name(self.model) if self.model else self.source}
        for token, row in self.rows.items():
            source = {"kind": ZERO} if row.model is None else name(row.model)
            if row.token is not None:
                key = "token" if isinstance(row.token, str) else "token_id"
                source = {"kind": OF_A_TOKEN, "model": source, key: row.token}
            made.setdefault("tokens", {})[token] = {
                "source": source,
                **({"force": True} if row.force else {}),
            }
        return made if self.multiple == 1 else {**made, "pad_to_multiple_of": self.multiple}


def tokens_in(where: Path, raw: Mapping[str, Any]) -> Tokens | None:
    """What a file says about tokens; None if nothing.

    Raises:
        UserError: it says something else than mergekit reads; the line names the key.
    """
    short, long = raw.get("tokenizer_source"), raw.get("tokenizer")
    if long is None:
        return None if short is None else Tokens(_source(where, "tokenizer_source", short), {}, 1)
    if short is not None:
        raise UserError(f"{where}: tokenizer_source and tokenizer: give one of them")
    given = mapping_in(where, "tokenizer", long)
    check_keys(where, "tokenizer", given, ["source", "tokens", "pad_to_multiple_of"])
    rows = mapping_in(where, "tokenizer.tokens", given.get("tokens"))
    multiple = given.get("pad_to_multiple_of") or 1
    if type(multiple) is not int or multiple < 1:
        raise UserError(
            f"{where}: tokenizer.pad_to_multiple_of: must be a whole number from 1 on, not "
            f"{str(multiple)[:60]!r}"
        )
    source = _source(where, "tokenizer.source", given.get("source", OF_ALL))
    return Tokens(source, {token: _row(where, token, row) for token, row in rows.items()}, multiple)


def _source(where: Path, key: str, value: Any) -> str:
    return str(value) if value in (OF_ALL, OF_THE_BASE) else source_in(where, key, value)


def _row(where: Path, token: str, value: Any) -> Row:
    key = f"tokenizer.tokens.{token}"
    if not token:
        raise UserError(f"{where}: {key}: must be the text of a token: write it in quotes")
    given = mapping_in(where, key, value)
    check_keys(where, key, given, ["source", "force"])
    force, source = given.get("force", False), given.get("source")
    if not isinstance(force, bool):
        raise UserError(f"{where}: {key}.force: must be true or false, not {str(force)[:60]!r}")
    if source is None:
        raise UserError(f"{where}: {key}.source is missing: name a model, or write {{kind: {ZERO}}}")
    if not isinstance(source, dict) or "kind" not in source:
        return Row(source_in(where, f"{key}.source", source), None, force)
    if source == {"kind": ZERO}:
        return Row(None, None, force)
    check_keys(where, f"{key}.source", source, ["kind", "model", "token", "token_id"])
    own = [source[name] for name in ("token", "token_id") if source.get(name) is not None]
    if source["kind"] != OF_A_TOKEN or [type(n) for n in own] not in ([str], [int]):
        raise UserError(
            f"{where}: {key}.source: must be {{kind: {ZERO}}}, or {{kind: {OF_A_TOKEN}}} with a model and "
            "either a token or a token_id"
        )
    return Row(source_in(where, f"{key}.source.model", source.get("model")), own[0], force)
