"""The tokens of a merge of models whose tokenizers differ, and where each model has them."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remerge.checkpoints.architecture import Unknown, model_of
from remerge.checkpoints.models import locate
from remerge.checkpoints.stored import is_adapter
from remerge.errors import UserError
from remerge.families._text import MARKS, TOKENIZERS, tokenizer_of
from remerge.folders.mergekit.file import Asked
from remerge.folders.mergekit.tokens import OF_ALL, Row, Tokens
from remerge.notes import note


@dataclass(frozen=True)
class Own:
    """The tokens of a model.

    Attributes:
        tokenizer: its tokenizer.
        rows: how many rows of embeddings it has.
    """

    tokenizer: Any
    rows: int


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of the merge.

    Attributes:
        tokenizer: its tokenizer.
        size: how many rows of embeddings it has.
        rows: for each model, its row of each token by number, -1 where it lacks the token.
        named: the tokens of which the file names the row, by number: the model and its row; None for zeros.
        forced: for each token, whether all models take the row that the file names.
    """

    tokenizer: Any
    size: int
    rows: Mapping[str, Tensor]
    named: Mapping[int, tuple[str, int] | None]
    forced: Tensor


def own_tokens(asked: Asked, folders: Mapping[str, Path]) -> dict[str, Own]:
    """The tokens of each model, the base first.

    Args:
        asked: what a file asks for.
        folders: where each model is.

    Raises:
        UserError: a model has no tokenizer, or an architecture that is not known.
    """
    found: dict[str, Own] = {}
    for source in dict.fromkeys([asked.base, *folders]):
        # mergekit takes an adapter's tokens from its base.
        folder = folders[asked.base if is_adapter(folders[source]) else source]
        tokenizer = _tokenizer(asked, folder)
        try:
            model: Any = model_of(folder)
        except Unknown as error:
            raise UserError(f"{asked.where}: tokenizer: {error}: leave tokenizer out") from None
        found[source] = Own(tokenizer, getattr(model.config.get_text_config(), "vocab_size", 0))
    return found


def _tokenizer(asked: Asked, folder: Path) -> Any:
    if any((folder / file).is_file() for file in TOKENIZERS):
        return tokenizer_of(folder)
    raise UserError(
        f"{asked.where}: tokenizer: {folder} has no tokenizer, for which mergekit may take an empty one: "
        "leave tokenizer out, or save the tokenizer beside the model"
    )


def vocabulary_of(asked: Asked, tokens: Tokens, own: Mapping[str, Own]) -> Vocabulary:
    """The tokens of the merge, and where each model has them.

    Args:
        asked: what a file asks for.
        tokens: what it says about tokens.
        own: the tokens of each model.

    Raises:
        UserError: a token without a row, a row that does not exist, or numbers with gaps.
    """
    where, whole = f"{asked.where}: tokenizer", own[asked.base]
    _check_rows(asked, asked.base, whole, whole.tokenizer.get_vocab())
    if tokens.model is not None:
        made = _tokenizer(asked, locate(tokens.model, key=f"{where}.source"))
        _note_on_marks(asked, whole.tokenizer, made)
    elif tokens.source == OF_ALL:
        made = _union(asked, own)
    else:
        made = _of_the_base(asked, tokens, own)
    known = made.get_vocab()
    for token in (token for token in tokens.rows if token not in known):
        made.add_tokens(token)
    numbers = made.get_vocab()
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise UserError(
            f"{where}: its {len(numbers)} tokens are not numbered up to {len(numbers) - 1}, and mergekit "
            "makes that many rows: give a tokenizer without gaps"
        )
    named = {numbers[token]: _named(asked, token, row, own) for token, row in tokens.rows.items()}
    forced = torch.zeros(len(numbers), dtype=torch.bool)
    forced[[numbers[token] for token, row in tokens.rows.items() if row.force]] = True
    rows = {source: _rows(asked, source, model, numbers) for source, model in own.items()}
    return Vocabulary(made, -(-len(numbers) // tokens.multiple) * tokens.multiple, rows, named, forced)


def _of_the_base(asked: Asked, tokens: Tokens, own: Mapping[str, Own]) -> Any:
    """The base's tokenizer; tokens that are added to it are the base's, too, as in mergekit."""
    made = own[asked.base].tokenizer
    if asked.named_base is None and any(o.tokenizer.get_vocab() != made.get_vocab() for o in own.values()):
        raise UserError(
            f"{asked.where}: base_model is missing, and mergekit takes the tokens of any model for the "
            "base's: name it"
        )
    known = made.get_vocab()
    if over := [t for t in tokens.rows if t not in known][own[asked.base].rows - len(known) :]:
        raise UserError(
            f"{asked.where}: tokenizer.tokens.{over[0]}: {asked.base} has no row for it: write source: union"
        )
    return made


def _union(asked: Asked, own: Mapping[str, Own]) -> Any:
    """The base's tokenizer with the tokens of the others, the ordinary ones first.

    Of a token that several models add, the first one's settings are taken.
    """
    base = own[asked.base].tokenizer
    known = base.get_vocab()
    ordinary: dict[str, str] = {}
    added: dict[str, tuple[str, Any]] = {}
    for source, model in own.items():
        vocabulary = model.tokenizer.get_vocab()
        for token in sorted(vocabulary.keys() - known.keys(), key=lambda t: int(vocabulary[t])):
            if vocabulary[token] < model.rows:
                ordinary.setdefault(token, source)
        for number, settings in model.tokenizer.added_tokens_decoder.items():
            if number < model.rows:
                added.setdefault(settings.content, (source, settings))
    made = deepcopy(base)
    plain = [token for token in ordinary if token not in added]
    for token in plain:
        made.add_tokens(token)
    for _, settings in added.values():
        made.add_tokens(settings)
    by = {source for token, (source, _) in added.items() if token not in known}
    anew = asked.named_base is None and any(o.tokenizer.get_vocab() != known for o in own.values())
    if anew or len(plain) > 1 or len(by) > 1:
        note(
            f"{asked.where}: mergekit numbers the tokens of this union in no fixed order, remerge by model "
            "and number"
        )
    return made


def _note_on_marks(asked: Asked, base: Any, made: Any) -> None:
    """A note on marks that the base's configuration has by their numbers, where these are other tokens."""
    for mark in MARKS:
        number = getattr(base, f"{mark}_id")
        if number is not None and made.convert_ids_to_tokens(number) != getattr(base, mark):
            note(
                f"{asked.where}: tokenizer: number {number}, {mark} in {asked.base}, is another token; "
                "config.json and generation_config.json are the base's: correct them"
            )


def _check_rows(asked: Asked, source: str, own: Own, tokens: Iterable[str]) -> None:
    """Refuse a model that has one of these tokens, but no row for it."""
    vocabulary = own.tokenizer.get_vocab()
    if over := sorted(token for token in tokens if vocabulary.get(token, -1) >= own.rows):
        raise UserError(
            f"{asked.where}: tokenizer: {source} has no row for {over[0]!r}, number {vocabulary[over[0]]} of "
            f"{own.rows}: resize its embeddings, or take the token out"
        )


def _rows(asked: Asked, source: str, own: Own, numbers: Mapping[str, int]) -> Tensor:
    """A model's row of each token by number."""
    _check_rows(asked, source, own, numbers)
    vocabulary = own.tokenizer.get_vocab()
    found = torch.empty(len(numbers), dtype=torch.long)
    found[[*numbers.values()]] = torch.tensor([vocabulary.get(token, -1) for token in numbers])
    return found


def _named(asked: Asked, token: str, row: Row, own: Mapping[str, Own]) -> tuple[str, int] | None:
    """The row that a file names for a token."""
    if row.model is None:
        return None
    key = f"{asked.where}: tokenizer.tokens.{token}.source"
    if row.model not in own:
        raise UserError(f"{key}: {row.model} is not among the models: name one as it is named there")
    model, there = own[row.model], token if row.token is None else row.token
    number = there if isinstance(there, int) else model.tokenizer.get_vocab().get(there, -1)
    if not 0 <= number < model.rows:
        raise UserError(f"{key}: {row.model} has no row for {there!r}: name a token that it has")
    return row.model, number
