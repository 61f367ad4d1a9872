"""Bases and experts: where their weights are, whether they are complete, and their tensors."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from torch import Tensor, nn
from torch.utils import deterministic

from remerge import attention, passes
from remerge.checkpoints.architecture import AS_DATA, INNER, on_meta
from remerge.checkpoints.reading import Checkpoint
from remerge.checkpoints.stored import (
    LINEARISED,
    is_linearised,
    must_be_numbers,
    read_tensors,
    stored_tensors,
    weight_files,
)
from remerge.contents import BESIDE, digest_of
from remerge.errors import UserError, cause_of
from remerge.families.heads import Heads
from remerge.files import AGAIN, MODEL, is_place

# Everything that a model is loaded from, and its licence, but no weights in pickles.
FILES = [*BESIDE, "*.safetensors", "*.py", "LICENSE*"]


def locate(source: str, revision: str | None = None, key: str = "") -> Path:
    """The folder of a local or hub model; hub files are downloaded once and then found offline.

    Args:
        source: a folder, or a hub id, which may name a revision: ``name/model@revision``.
        revision: the revision, if `source` names none.
        key: where the source is written, for error messages.

    Raises:
        UserError: no such folder, no such hub id, or it is not in the cache and the hub is out of reach.
    """
    if Path(source).is_dir():
        return Path(source)
    where = f"{key}: {source}" if key else source
    if is_place(source):
        raise UserError(f"{where}: no such folder: {MODEL}")
    name, _, own = source.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or own or None, allow_patterns=FILES))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        cause = type(error).__name__
        raise UserError(
            f"{where}: neither a local folder nor available from the hub ({cause}): "
            f"give the path of a save_pretrained folder, beginning with ./ or /"
        ) from None


def fingerprint(folder: Path) -> str:
    """A short name for exactly these weights, and the heads beside them.

    Raises:
        UserError: the folder contains no safetensors.
    """
    total = hashlib.sha256()
    weights = [folder / LINEARISED] if is_linearised(folder) else weight_files(folder)
    for file in sorted([*weights, *(folder / "heads").glob("*.safetensors")]):
        total.update(bytes.fromhex(digest_of(file)))
    return total.hexdigest()[:16]


def load_whole(auto: Any, folder: Path, dtype: torch.dtype, may_lack: Sequence[str] = ()) -> nn.Module:
    """A model with every tensor from the folder's safetensors, in evaluation mode.

    Args:
        auto: a transformers class with ``from_pretrained``.
        folder: the folder of the configuration and weights.
        dtype: the dtype of the weights in memory.
        may_lack: children of the model, by name, that the folder may lack.

    Raises:
        UserError: a file is missing or truncated, or a tensor is missing or has another shape.
    """
    stored_tensors(folder)
    try:
        model, info = auto.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            **AS_DATA,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # each configuration refuses its values in its own way
        cause = cause_of(error)
        raise UserError(f"{folder}: cannot be loaded ({cause}): {AGAIN}") from None
    for what in ("missing_keys", "mismatched_keys"):
        names = [str(key[0] if isinstance(key, tuple) else key) for key in info[what]]
        broken = sorted(name for name in names if name.split(".")[0] not in may_lack)
        if broken:
            raise UserError(
                f"{folder}: tensor {broken[0]} is {what.split('_')[0]}: the checkpoint is incomplete or not "
                "of this base.family: save it again, or change base.family"
            )
    must_be_numbers(folder, dict(model.named_parameters()))
    model.eval()
    model.config.return_dict = True  # a folder may ask for tuples, whose parts have no names
    model.register_forward_hook(passes.counted)
    whole: nn.Module = model
    return whole


def head_tensors(folder: Path, task: str, places: Sequence[str]) -> dict[str, Tensor]:
    """A task's head from a checkpoint: from its file in `heads/`, or from the model or adapter itself.

    Args:
        folder: the checkpoint.
        task: the task of the head.
        places: the names of the model's children that form the head.

    Raises:
        UserError: there is none.
    """
    own = folder / "heads" / f"{task}.safetensors"
    found = read_tensors(own) if own.is_file() else stored_tensors(folder)
    # The names under which PEFT saves modules that it trains in full.
    plain = {
        re.sub(r"^base_model\.model\.|modules_to_save\.(default\.)?", "", n): t for n, t in found.items()
    }
    heads = {name: tensor for name, tensor in plain.items() if name.split(".")[0] in places}
    if not heads:
        raise UserError(
            f"{folder}: no head for {task} (no tensor {' or '.join(f'{p}.…' for p in places)}): "
            "save the whole model that was fine-tuned, or its head as modules_to_save"
        )
    must_be_numbers(folder, heads)
    return heads


def head_width(tensors: Mapping[str, Tensor]) -> int:
    """The number of classes of a head, from its tensors by name."""
    last = [n for n in sorted(tensors) if n.endswith("weight") and not n.startswith(INNER)][-1]
    return tensors[last].shape[0]


def held(model: Any) -> Checkpoint:
    """A model in memory as a checkpoint, without the heads of tasks."""
    state = state_of(model)
    whole = dict(model.named_parameters(remove_duplicate=False))
    first = {id(whole[name]): name for name in state}
    ties = {n: first[id(p)] for n, p in whole.items() if first.get(id(p), n) != n}
    return Checkpoint(Path(model.config.name_or_path), on_meta(type(model), model.config), state, ties)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters by name, tied ones once; they share the model's memory.

    Heads of tasks are left out: they belong to one expert alone.
    """
    heads = [f"{name}." for name, module in model.named_modules() if isinstance(module, Heads)]
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if not name.startswith(tuple(heads))
    }


def device_of(name: str) -> torch.device:
    """The device that a configuration names; ``auto`` is a GPU if there is one.

    Raises:
        UserError: this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    lacks_mps = device.type == "mps" and not torch.backends.mps.is_available()
    if lacks_mps or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {name}: not on this machine: use auto or cpu")
    return device


def prepare_process(threads: int, tf32: bool) -> None:
    """Make arithmetic repeatable: fixed threads, no subnormals, deterministic kernels, TF32 only if asked."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32  # which torch would take for convolutions, unasked
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Otherwise torch also fills fresh memory before it is written: hundreds of kernels in a step of learning.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    attention.make_repeatable()
