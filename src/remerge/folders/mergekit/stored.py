"""The stored models that a mergekit configuration names: whether both programs read the same of them."""

from collections.abc import Sequence
from pathlib import Path

from remerge.checkpoints.stored import is_adapter
from remerge.errors import UserError
from remerge.folders.mergekit.file import DTYPES, Asked
from remerge.folders.mergekit.parts import Part
from remerge.headers import weights
from remerge.notes import note


def check_adapters(asked: Asked, in_place: bool, base: Path, experts: Sequence[Path]) -> None:
    """Refuse an adapter that has no base, or whose layers do not stay, of folders as in `check_stored`."""
    odd = next(filter(is_adapter, [base, *experts]), None)
    if odd and (asked.method == "passthrough" or not in_place):
        raise UserError(
            f"{asked.where}: {odd} is an adapter, and only layers of whole models are moved or passed "
            "through: merge it into its base first, and give that"
        )
    # Where the base is itself among the models, no other model is named to which an adapter belongs.
    for folder in [base, *experts] if asked.base in asked.experts else [base]:
        if is_adapter(folder):
            raise UserError(
                f"{asked.where}: {folder} is an adapter, and no model is named to add it to: "
                "give a whole model"
            )


def check_stored(asked: Asked, parts: Sequence[Part], base: Path, experts: Sequence[Path]) -> None:
    """Refuse stored models of which mergekit would make another merge; a note if only rounding differs.

    Args:
        asked: what a file asks for.
        parts: the same by tensors.
        base: the folder of the base.
        experts: the same of each expert.

    Raises:
        UserError: models are stored in several dtypes, and the file names none.
    """
    where = asked.where
    dtypes = {name: dtype for name, (_, dtype) in weights(str(base.resolve())).items()}
    for expert in experts:
        own = {name: dtype for name, (_, dtype) in weights(str(expert.resolve())).items() if name in dtypes}
        if asked.dtype is None and own != {name: dtypes[name] for name in own}:
            raise UserError(
                f"{where}: dtype is missing, and {expert} is stored in another one than {base}: name it"
            )
    half = not {"F16", "BF16"}.isdisjoint(dtypes.values())
    differs = []
    if asked.method == "passthrough" and all(part.settings["scale"] == [1] for part in parts):
        return
    if asked.computed in DTYPES[1:] or (asked.computed is None and half):
        differs.append("rounds each step to 16 bits")
    trims = any(part.sparse and not part.random for part in parts)
    # Of three experts that cancel, weights that are no powers of two leave a sign to the rounding.
    ties = trims or any(_elects(part) and len(part.experts) > 2 and not part.random for part in parts)
    # Rows that fill up a vocabulary are the same.
    padded = asked.tokens is not None and asked.tokens.multiple > 1
    if (ties and (differs or half)) or (trims and padded):
        differs.append("leaves entries that tie to its sort and rounding")
    if any(part.random for part in parts):
        differs.append("draws its random masks anew at every run")
    if differs:
        note(f"{where}: mergekit {' and '.join(differs)}, remerge does not: the merges differ by that")


def _elects(part: Part) -> bool:
    """Whether a method elects signs."""
    aggregate: str = part.settings.get("aggregate", "all")
    return aggregate != "all"
