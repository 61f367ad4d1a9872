"""A merge on the hub: what is uploaded, and what is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from remerge.checkpoints.stored import weight_files
from remerge.errors import UserError, cause_of
from remerge.files import read_json
from remerge.folders.card import HUB
from remerge.folders.recipe import RECIPE


def push(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a merge to the hub with the token that `hf auth login` keeps, and return its address.

    Args:
        folder: a folder that `remerge merge` or the stage `exports` wrote.
        repository: ``name/model``; created if it does not exist.
        private: whether a created repository is private.

    Raises:
        UserError: the folder is not a complete merge with a card, a file in it names a local folder, or
            the hub refuses it.
    """
    weight_files(folder)
    if not {"merge", "remerge"} <= _tags(folder):
        raise UserError(
            f"{folder}/README.md: not the card of a remerge merge: give a folder that remerge wrote"
        )
    for file in sorted(folder.glob("*.json")):
        if file.name.endswith(".index.json"):
            continue
        given = read_json(file)
        if "token" in file.name or "vocab" in file.name:
            # Other texts in them are words.
            known = given if isinstance(given, dict) else {}
            given = {name: known[name] for name in known if name.endswith(("_file", "_path"))}
        for text in _texts(given):
            if _is_here(text):
                raise UserError(f"{file} names {text}, a path on this machine: replace it with a hub id")
    # A recipe of local folders is of no use elsewhere, and gives away their paths.
    recipe = folder / RECIPE
    local = recipe.is_file() and not all(map(_is_hub_id, _models(yaml.safe_load(recipe.read_text("utf-8")))))
    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            commit_message="A merge by remerge",
            ignore_patterns=[RECIPE] if local else None,
        )
    except OfflineModeIsEnabled:
        raise UserError(f"{repository}: HF_HUB_OFFLINE keeps the hub away: unset it to push") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        cause = cause_of(error)
        raise UserError(f"{repository}: the hub refused it ({cause}): see `hf auth whoami`") from None
    return str(address)


def _tags(folder: Path) -> set[str]:
    """The tags of a folder's card."""
    try:
        data: Any = ModelCard.load(folder / "README.md").data
    except (OSError, ValueError, HFValidationError) as error:
        raise UserError(
            f"{folder}/README.md: not a model card ({cause_of(error)}): give a folder that remerge wrote"
        ) from None
    return {*(data.get("tags") or ())}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _is_here(text: str) -> bool:
    """Whether a text is a path on this machine."""
    return text[:1] in ("/", "~") or text[:2] == "./" or text[:3] == "../"


def _models(part: Any) -> Iterator[str]:
    """The models that a part of a recipe names."""
    for key, value in part.items() if isinstance(part, dict) else [("", entry) for entry in part]:
        if isinstance(value, dict | list):
            yield from _models(value)
        elif key in ("model", "base_model", "path", "source") and value not in (None, "union", "base"):
            yield str(value)


def _is_hub_id(source: str) -> bool:
    return HUB.fullmatch(source.partition("@")[0]) is not None and not Path(source).is_dir()
