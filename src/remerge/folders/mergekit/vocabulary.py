"""Models whose tokenizers have different tokens: every model is seen with the tokens of the merge.

What is merged then are models of one size, whose rows of embeddings and heads are those of the same tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remerge.checkpoints.architecture import Unknown, model_of, on_meta
from remerge.checkpoints.models import locate
from remerge.checkpoints.reading import in_a_file
from remerge.checkpoints.stored import is_adapter
from remerge.deltas import LowRank
from remerge.errors import UserError
from remerge.families._text import MARKS, TOKENIZERS, tokenizer_of
from remerge.folders.experts import Expert
from remerge.folders.inputs import Inputs
from remerge.folders.mergekit.file import Asked
from remerge.folders.mergekit.places import Places
from remerge.folders.mergekit.tokens import OF_ALL, Row, Tokens
from remerge.notes import note

MEAN, ZERO = -2, -1
"""What gives a row in place of a model's number: all models that have the token; none."""

PIECE = 4096
"""Rows that are in memory at once."""


@dataclass(frozen=True)
class _Own:
    """The tokens of a model.

    Attributes:
        tokenizer: its tokenizer.
        rows: how many rows of embeddings it has.
    """

    tokenizer: Any
    rows: int


@dataclass(frozen=True)
class _Vocabulary:
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


def with_tokens(
    asked: Asked, inputs: Inputs, sources: Mapping[str, str], folders: Mapping[str, Path]
) -> Inputs:
    """The models with the tokens that the file asks for, if it asks for any.

    Args:
        asked: what a file asks for.
        inputs: the models with the layers of the merge.
        sources: the experts by name.
        folders: where each model is.

    Raises:
        UserError: a model has no tokenizer, or a token without a row; or rows of tokens elsewhere than in
            its embeddings and head; or the file names a row that does not exist.
    """
    if asked.tokens is None:
        return inputs
    own = _own(asked, folders)
    made = _vocabulary(asked, asked.tokens, own)
    base, rows = inputs.base, own[asked.base].rows
    still = not made.forced.any() and {made.size, *(model.rows for model in own.values())} == {rows}
    if still and all(torch.equal(row, torch.arange(rows)) for row in made.rows.values()):
        return replace(inputs, tokenizer=made.tokenizer)
    names = _names(asked, inputs, rows, made)
    tensors, values = dict(base.tensors), {name: dict(e.values) for name, e in inputs.experts.items()}
    assert base.model is not None  # else it would have been refused with its tokenizer
    places = Places(asked, base.model.state_dict())
    experts = {source: inputs.experts[name] for name, source in sources.items()}
    for name in names:
        theta = base.tensors[name]
        found = {
            source: _whole(experts[source], name, theta) if source in experts else theta
            for source in places.models(name)
        }
        aligned = _aligned(asked, name, found, made)
        tensors[name] = aligned.get(asked.base, theta.new_zeros(()).expand(made.size, *theta.shape[1:]))
        for expert, source in sources.items():
            values[expert][name] = aligned.get(source, tensors[name])
    return replace(
        inputs,
        base=replace(base, tensors=tensors),
        experts={name: replace(expert, values=values[name]) for name, expert in inputs.experts.items()},
        settings={**inputs.settings, **({"vocab_size": made.size} if made.size != rows else {})},
        tokenizer=made.tokenizer,
    )


def _own(asked: Asked, folders: Mapping[str, Path]) -> dict[str, _Own]:
    """The tokens of each model, the base first."""
    found: dict[str, _Own] = {}
    for source in dict.fromkeys([asked.base, *folders]):
        # mergekit takes an adapter's tokens from its base.
        folder = folders[asked.base if is_adapter(folders[source]) else source]
        tokenizer = _tokenizer(asked, folder)
        try:
            model: Any = model_of(folder)
        except Unknown as error:
            raise UserError(f"{asked.where}: tokenizer: {error}: leave tokenizer out") from None
        found[source] = _Own(tokenizer, getattr(model.config.get_text_config(), "vocab_size", 0))
    return found


def _tokenizer(asked: Asked, folder: Path) -> Any:
    if any((folder / file).is_file() for file in TOKENIZERS):
        return tokenizer_of(folder)
    raise UserError(
        f"{asked.where}: tokenizer: {folder} has no tokenizer, for which mergekit may take an empty one: "
        "leave tokenizer out, or save the tokenizer beside the model"
    )


def _vocabulary(asked: Asked, tokens: Tokens, own: Mapping[str, _Own]) -> _Vocabulary:
    """The tokens of the merge, and where each model has them."""
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
    return _Vocabulary(made, -(-len(numbers) // tokens.multiple) * tokens.multiple, rows, named, forced)


def _of_the_base(asked: Asked, tokens: Tokens, own: Mapping[str, _Own]) -> Any:
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


def _union(asked: Asked, own: Mapping[str, _Own]) -> Any:
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


def _check_rows(asked: Asked, source: str, own: _Own, tokens: Iterable[str]) -> None:
    """Refuse a model that has one of these tokens, but no row for it."""
    vocabulary = own.tokenizer.get_vocab()
    if over := sorted(token for token in tokens if vocabulary.get(token, -1) >= own.rows):
        raise UserError(
            f"{asked.where}: tokenizer: {source} has no row for {over[0]!r}, number {vocabulary[over[0]]} of "
            f"{own.rows}: resize its embeddings, or take the token out"
        )


def _rows(asked: Asked, source: str, own: _Own, numbers: Mapping[str, int]) -> Tensor:
    """A model's row of each token by number."""
    _check_rows(asked, source, own, numbers)
    vocabulary = own.tokenizer.get_vocab()
    found = torch.empty(len(numbers), dtype=torch.long)
    found[[*numbers.values()]] = torch.tensor([vocabulary.get(token, -1) for token in numbers])
    return found


def _named(asked: Asked, token: str, row: Row, own: Mapping[str, _Own]) -> tuple[str, int] | None:
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


def _names(asked: Asked, inputs: Inputs, rows: int, made: _Vocabulary) -> list[str]:
    """The tensors with a row for each token."""
    base, where = inputs.base, f"{asked.where}: tokenizer"
    whole: Any = base.model
    modules = [whole.get_input_embeddings(), whole.get_output_embeddings()]
    parameters = {id(p) for module in modules if module is not None for p in module.parameters()}
    own = whole.named_parameters(remove_duplicate=False)
    found = {base.ties.get(name, name) for name, p in own if id(p) in parameters}
    config = deepcopy(whole.config)
    config.vocab_size = rows + 1
    more, there = on_meta(type(whole), config).state_dict(), whole.state_dict()
    grown = {base.ties.get(name, name) for name in more if more[name].shape != there[name].shape}
    if odd := sorted(found ^ grown):
        raise UserError(
            f"{where}: {odd[0]} of {asked.base}: rows are moved only in an embedding and a head, as many as "
            "vocab_size in config.json: leave tokenizer out"
        )
    pad = getattr(whole.config, "pad_token_id", None)
    if pad is not None and pad >= made.size:
        raise UserError(
            f"{where}: the merge has {made.size} tokens, and pad_token_id is {pad} in "
            f"{asked.base}/config.json: correct it"
        )
    if odd := sorted(found & inputs.still):
        raise UserError(f"{where}: not every model has {odd[0]}: give models of one kind")
    return sorted(found & base.tensors.keys())


def _whole(expert: Expert, name: str, theta: Tensor) -> Tensor:
    """A tensor of an expert: the base's if an adapter leaves it as it is."""
    value = expert.values.get(name, theta)
    return value.dense().add_(theta) if isinstance(value, LowRank) else value


def _aligned(asked: Asked, name: str, found: Mapping[str, Tensor], made: _Vocabulary) -> dict[str, Tensor]:
    """A tensor of each model with the rows of the merge; rows beyond the tokens are the mean of all."""
    rows = torch.stack([made.rows[source] for source in found])
    givers, given = _givers(asked, name, [*found], rows, made)
    dtype = torch.float32 if asked.computed == "float32" else next(iter(found.values())).dtype
    for theta in found.values():
        dtype = torch.promote_types(dtype, theta.dtype)
    aligned: dict[str, Tensor] = {}
    for t, (source, theta) in enumerate(found.items()):
        has = (rows[t] >= 0) & ~made.forced
        giver, row = torch.where(has, t, givers), torch.where(has, rows[t], given)
        n = len(row)
        if n == made.size and (giver == t).all() and torch.equal(row, torch.arange(n)):
            aligned[source] = theta[:n]
            continue
        merged = in_a_file(torch.Size((made.size, *theta.shape[1:])), dtype)
        for at in (slice(k, min(k + PIECE, n)) for k in range(0, n, PIECE)):
            merged[at] = _piece([*found.values()], rows[:, at], giver[at], row[at], dtype)
        merged[n:] = merged[:n].mean(0)
        aligned[source] = merged
    return aligned


def _givers(
    asked: Asked, name: str, models: Sequence[str], rows: Tensor, made: _Vocabulary
) -> tuple[Tensor, Tensor]:
    """For each token, what gives the row of models that lack it, and the row there.

    It is the row that the file names; else that of the only model that has the token, the base's, or the mean
    of those that have it; zeros if none has it.
    """
    has = rows >= 0
    givers = torch.full(rows.shape[1:], MEAN)
    if asked.named_base in models:
        base = models.index(asked.named_base)
        givers[has[base]] = base
    givers = torch.where(has.sum(0) == 1, has.int().argmax(0), givers)
    givers[~has.any(0)] = ZERO
    given = rows.gather(0, givers.clamp(min=0)[None])[0]
    for number, named in made.named.items():
        if has[:, number].all() and not made.forced[number]:
            continue
        if named is not None and named[0] not in models:
            token = made.tokenizer.convert_ids_to_tokens(number)
            raise UserError(
                f"{asked.where}: tokenizer.tokens.{token}.source: {named[0]} is not merged where {name} is: "
                "name another model"
            )
        givers[number], given[number] = (models.index(named[0]), named[1]) if named else (ZERO, 0)
    return givers, given


def _piece(thetas: Sequence[Tensor], rows: Tensor, giver: Tensor, row: Tensor, dtype: torch.dtype) -> Tensor:
    """Some rows of a model with the tokens of the merge.

    Args:
        thetas: the tensor of each model.
        rows: each model's own rows of these tokens, -1 where it lacks one.
        giver: what gives each row.
        row: the row there.
        dtype: in which means are taken.
    """
    made = torch.zeros(len(row), *thetas[0].shape[1:], dtype=dtype)
    for t, theta in enumerate(thetas):
        made[giver == t] = theta[row[giver == t]].to(dtype)
        mean = (giver == MEAN) & (rows[t] >= 0)
        made[mean] += theta[rows[t, mean]].to(dtype)
    mean = giver == MEAN
    count = (rows[:, mean] >= 0).sum(0)
    made[mean] /= count.view(-1, *[1] * (made.ndim - 1))
    return made
