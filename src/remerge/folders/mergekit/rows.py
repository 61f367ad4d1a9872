"""Models whose tokenizers have different tokens: every model is seen with the tokens of the merge.

What is merged then are models of one size, whose rows of embeddings and heads are those of the same tokens.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remerge.checkpoints.architecture import on_meta
from remerge.checkpoints.reading import in_a_file
from remerge.deltas import LowRank
from remerge.errors import UserError
from remerge.folders.experts import Expert
from remerge.folders.inputs import Inputs
from remerge.folders.mergekit.file import Asked
from remerge.folders.mergekit.places import Places
from remerge.folders.mergekit.vocabulary import Vocabulary, own_tokens, vocabulary_of

MEAN, ZERO = -2, -1
"""What gives a row in place of a model's number: all models that have the token; none."""

PIECE = 4096
"""Rows that are in memory at once."""


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
    own = own_tokens(asked, folders)
    made = vocabulary_of(asked, asked.tokens, own)
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


def _names(asked: Asked, inputs: Inputs, rows: int, made: Vocabulary) -> list[str]:
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


def _aligned(asked: Asked, name: str, found: Mapping[str, Tensor], made: Vocabulary) -> dict[str, Tensor]:
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
    asked: Asked, name: str, models: Sequence[str], rows: Tensor, made: Vocabulary
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
