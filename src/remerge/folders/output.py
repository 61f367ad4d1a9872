"""A folder of merged weights: shards as the base stores them, and the other files of the base's folder."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor

from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.writing import Names, Storage
from remerge.errors import UserError
from remerge.families._text import TOKENIZERS
from remerge.files import AGAIN, read_json, read_settings, write_json
from remerge.folders.recipe import RECIPE

SHARD = "5GB"
"""The largest size of one file of weights."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".index.json")
"""The endings of files of weights."""

NOT_OF_THE_MERGE = (
    "README.md",
    RECIPE,
    "trainer_state.json",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
)
"""Files about how the base itself was made, and its card."""


def write_weights(
    folder: Path, merged: Iterator[tuple[str, Tensor]], base: Checkpoint, dtype: str | None
) -> None:
    """Write tensors to one file, or to shards and their index; a shard leaves memory once it is complete.

    Args:
        folder: the folder to write to.
        merged: every tensor of the base, merged, in the base's order.
        base: how it is stored.
        dtype: the dtype to store; the base's if not given.
    """
    storage = Storage(base.model) if base.model is not None else Names(base.ties)
    parts = storage.parts(base.tensors)
    shapes: dict[str, Tensor] = {}
    for part in parts:
        thetas = {name: base.tensors[name] for name in part}
        shapes |= storage({n: theta.to("meta", stored_dtype(theta, dtype)) for n, theta in thetas.items()})
    rest = {n: t for n, t in base.unread.items() if n not in shapes}
    plan = split_torch_state_dict_into_shards(shapes | rest, max_shard_size=SHARD)
    shards: dict[str, dict[str, Tensor]] = {}

    def put(tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            file = plan.tensor_to_filename[name]
            shards.setdefault(file, {})[name] = tensor
            if len(shards[file]) == len(plan.filename_to_tensors[file]):
                save_file(shards.pop(file), folder / file, {"format": "pt"})

    of = {name: i for i, part in enumerate(parts) for name in part}
    waiting: dict[int, dict[str, Tensor]] = {}
    for name, tensor in merged:
        part_made = waiting.setdefault(of[name], {})
        part_made[name] = tensor
        if len(part_made) == len(parts[of[name]]):
            put(storage(waiting.pop(of[name])))
    put(rest)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)


def stored_dtype(theta: Tensor, dtype: str | None) -> torch.dtype:
    """The dtype in which a tensor of the base is written."""
    return getattr(torch, dtype) if dtype and theta.is_floating_point() else theta.dtype


OF_TOKENIZERS = (
    *TOKENIZERS,
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""The files of a tokenizer."""


def copied(base: Path, tokenizer: bool = True) -> list[Path]:
    """The files of a base's folder, besides its weights, that are needed to load and use it: relative paths.

    They include custom code, licences, and the parts of a sentence encoder that `modules.json` names.

    Args:
        base: the folder.
        tokenizer: whether its tokenizer is needed, too.
    """
    found = [
        file.relative_to(base)
        for file in sorted(base.iterdir())
        if file.is_file() and not file.name.startswith(".") and not file.name.endswith(WEIGHTS)
    ]
    templates = ["additional_chat_templates"] if tokenizer else []
    folders = [base / name for name in (*_modules(base), *templates)]
    inside = [f for folder in folders if folder.is_dir() for f in sorted(folder.rglob("*")) if f.is_file()]
    found += [file.relative_to(base) for file in inside]
    left = (*NOT_OF_THE_MERGE, *(() if tokenizer else OF_TOKENIZERS))
    return [file for file in found if str(file) not in left]


def copy(base: Path, folder: Path, dtype: str | None, settings: Mapping[str, Any], tokenizer: bool) -> None:
    """Copy these files, and write the dtype and other settings into the configuration."""
    for file in copied(base, tokenizer):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base / file, folder / file)
    config = folder / "config.json"
    if (dtype or settings) and config.exists():
        written = {**read_settings(config), **settings}
        if dtype:
            written["dtype" if "dtype" in written else "torch_dtype"] = dtype
        write_json(config, written)


def check_modules(base: Path, expert: Path) -> None:
    """Refuse an expert that trained a further module of a sentence encoder, since these are not merged.

    Raises:
        UserError: such a module has other weights than the base's.
    """
    for name in _modules(base):
        for file in sorted((base / name).rglob("*.safetensors")):
            other = expert / file.relative_to(base)
            if other.is_file() and other.read_bytes() != file.read_bytes():
                raise UserError(f"{other}: differs from the base's, and is not merged: merge it by hand")


def _modules(base: Path) -> list[str]:
    """The folders of a sentence encoder's further modules."""
    if not (base / "modules.json").is_file():
        return []
    listed = read_json(base / "modules.json")
    if not (isinstance(listed, list) and all(isinstance(module, dict) for module in listed)):
        raise UserError(f"{base}/modules.json: not a list of modules: {AGAIN}")
    paths = [str(module.get("path", "")) for module in listed]
    return [path for path in paths if path and (base / path).resolve().parent == base.resolve()]
