"""What a merge of folders reads: the base and every expert, under names that tell them apart."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from remerge.checkpoints.models import locate
from remerge.checkpoints.reading import Checkpoint
from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.families._text import TOKENIZERS, tokenizer_of
from remerge.folders.experts import (
    Expert,
    apart,
    deltas_of,
    kept,
    name_in,
    read_base,
    read_expert,
    tied_by_value,
)
from remerge.notes import note, note_on


@dataclass(frozen=True)
class Inputs:
    """What is merged.

    Attributes:
        base: the base.
        experts: each expert under the base's names, by its own name.
        still: the tensors that stay as in the base.
        settings: what the merge's config.json says otherwise than the base's.
        tokenizer: the merge's tokenizer, if it has another one than the base.
    """

    base: Checkpoint
    experts: Mapping[str, Expert]
    still: set[str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Any = None

    @property
    def are_whole(self) -> bool:
        """Whether all are whole models of a known architecture, and nothing of them is left unmerged."""
        return (
            self.base.model is not None
            and not self.still
            and all(expert.whole and not expert.own for expert in self.experts.values())
        )

    def weights(self, device: torch.device) -> Deltas:
        """The weight deltas that are merged."""
        merged = {name: theta for name, theta in self.base.tensors.items() if name not in self.still}
        return deltas_of(merged, self.experts, device)


def read_inputs(base: str, sources: Mapping[str, str]) -> Inputs:
    """The base and the experts, with a note on what is not merged.

    Args:
        base: a folder of safetensors, or a hub id.
        sources: the same of each expert, under its name.

    Raises:
        UserError: one cannot be read, or is not of this base.
    """
    whole = read_base(base)
    read = {name: read_expert(name, locate(source), whole) for name, source in sources.items()}
    if whole.model is None:
        whole = tied_by_value(whole, read)
    still = kept(whole, read)
    read = {name: apart(expert, still, whole.tensors) for name, expert in read.items()}
    for name, expert in read.items():
        note_on({n.rpartition(".")[0] for n in expert.own}, f"only in {name}: kept in {head_file(name)}")
    return Inputs(whole, read, still)


def check_tokens(base: Checkpoint, sources: Mapping[str, str]) -> None:
    """Refuse an expert whose tokenizer numbers the base's tokens otherwise, with a note on tokens of its own.

    Rows of embeddings are merged by their numbers, and the merge has the base's tokenizer. One that cannot be
    read, as some need other packages, is not looked at.

    Raises:
        UserError: a token has another number in an expert than in the base.
    """
    config = base.model.config if base.model is not None else None
    ours = _tokens(base.folder, config)
    for name, theirs in ((name, _tokens(locate(source), config)) for name, source in sources.items()):
        if moved := min((t for t in theirs if ours.get(t, theirs[t]) != theirs[t]), default=None):
            raise UserError(
                f"expert {name}: its tokenizer is another: {moved!r} is token {theirs[moved]} there, "
                f"{ours[moved]} in the base, and rows are merged by number: give an expert of this base, or "
                "merge by tokens with `remerge mergekit` (tokenizer_source)"
            )
        if ours and (own := sorted(theirs.keys() - ours.keys(), key=lambda token: theirs[token])):
            more = f" and {len(own) - 3} more" if own[3:] else ""
            note(f"{', '.join(own[:3])}{more}: tokens of {name} alone: the base's tokenizer is kept")


def _tokens(folder: Path, config: Any) -> Mapping[str, int]:
    """The numbers of a folder's tokens; empty without a tokenizer."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return {}
    with suppress(UserError):
        found: Mapping[str, int] = tokenizer_of(folder, config).get_vocab()
        return found
    return {}


def named(experts: Sequence[str]) -> dict[str, str]:
    """The experts by name, on which random masks depend.

    By default, a name is the last part of a folder, or as many as tell all apart: a card shows them.

    Args:
        experts: each a folder or hub id, alone or as ``name=folder``.

    Raises:
        UserError: an expert or a name is given twice.
    """
    given = [name_in(expert) for expert in experts]
    sources = [source for _, source in given]
    if len({Path(source).resolve() for source in sources}) < len(given):
        raise UserError("an expert is given twice: weight it by --param instead")
    own = [name for name, _ in given if name]
    if twice := next((name for k, name in enumerate(own) if name in own[:k]), None):
        raise UserError(f"--expert: {twice} is the name of two: give another one")
    parts = [(name, Path(source).absolute().parts) for name, source in given]
    tried = ([name or "/".join(part[-k:]) for name, part in parts] for k in count(1))
    names = next(names for names in tried if len(set(names)) == len(names))
    return dict(zip(names, sources, strict=True))


def head_file(expert: str) -> Path:
    """The file of the tensors that only this expert has."""
    return Path("heads") / f"{expert.strip('./').replace('/', '-')}.safetensors"
