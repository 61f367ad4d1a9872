"""One merge without a pipeline: checkpoint folders in, a checkpoint folder out, of any architecture."""

import ast
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from remerge.checkpoints.models import FILES, device_of, is_adapter, locate, tensors_of
from remerge.deltas import Deltas, LowRank, Merged, State, Value
from remerge.errors import UserError
from remerge.families.classifier import HEADS
from remerge.files import read_json, write_folder, write_json
from remerge.folders.card import model_card
from remerge.methods import find

SHARD = "5GB"
"""At most so much in one file of weights."""


def merge_folders(
    method: str,
    base: str,
    experts: Sequence[str],
    out: Path,
    params: Sequence[str] = (),
    dtype: str | None = None,
    device: str = "auto",
) -> None:
    """Merge checkpoints of one base into a new folder, with the base's configuration and tokenizer.

    What an expert owns alone, as a classifier's head, is left out, and the base's is kept; both are said on
    standard error.

    Args:
        method: a method that needs the weights alone.
        base: a folder of safetensors, or a hub id.
        experts: the same for each expert; they may be LoRA adapters.
        out: a folder that does not exist, or is empty.
        params: the method's parameters, each as ``name=value``.
        dtype: of the merged weights; the base's if not given.
        device: where to compute.

    Raises:
        UserError: an unknown method or parameter, a folder that is not whole or does not fit the base.
    """
    chosen = find(method)
    settings = chosen.settings(dict(map(_parameter, params)))
    if chosen.learned or chosen.needs.statistics:
        what = "inputs" if chosen.learned else "statistics of the experts"
        raise UserError(f"method {method} needs {what}: name it in a configuration and run the pipeline")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: give another --out")
    sources, place = _named(experts), device_of(device)
    folder = locate(base)
    if is_adapter(folder):
        raise UserError(f"{base} is an adapter: give the model that it was trained on as --base")
    theta = tensors_of(folder)
    states = {name: _expert(name, locate(source), theta) for name, source in sources.items()}
    kept = _kept(theta, states)
    try:
        weights = _deltas({n: t for n, t in theta.items() if n not in kept}, states, place)
        merged = chosen.function(weights, **settings)
        again = ["remerge merge", f"--method {method}", f"--base {base}"]
        again += [f"--expert {expert}" for expert in experts]
        again += [f"--param {param!r}" for param in params]
        again += [*([f"--dtype {dtype}"] if dtype else []), "--out …"]
        card = model_card(
            out.name, base, sources, chosen, settings, ["```sh\n" + " \\\n  ".join(again) + "\n```"]
        )

        def save(target: Path) -> None:
            _copy(folder, target, dtype)
            _write(target, _added(theta, merged, weights, dtype), theta, dtype)
            (target / "README.md").write_text(card)

        write_folder(out, save)
    except torch.OutOfMemoryError:
        raise UserError(f"{place}: base and experts do not fit its memory: use --device cpu") from None


def _parameter(written: str) -> tuple[str, Any]:
    """A parameter from ``name=value``; a value that is no number, list, True or False is a word."""
    name, equals, value = written.partition("=")
    if not equals:
        raise UserError(f"--param {written!r}: write name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _named(experts: Sequence[str]) -> dict[str, str]:
    """The experts under the last part of their names, on which random masks depend, if these differ."""
    if len(set(experts)) < len(experts):
        raise UserError("an expert is given twice: weigh it by --param instead")
    short = [Path(expert).name for expert in experts]
    return dict(zip(short if len(set(short)) == len(short) else experts, experts, strict=True))


def _expert(name: str, folder: Path, base: State) -> Mapping[str, Value]:
    """An expert's tensors, or the deltas of its adapter, without what it owns alone."""
    if is_adapter(folder):
        # Imported here: PEFT takes a second, and most experts are whole models.
        from remerge.checkpoints.adapters import read_adapter

        beside = {key for key in tensors_of(folder) if ".lora_" not in key}
        _say(beside, f"lies beside the adapter {name}: left out")
        return read_adapter(folder, {n: t for n, t in base.items() if _child(n) not in HEADS})
    state, children = tensors_of(folder), {_child(n) for n in base}
    shared = {n: t for n, t in state.items() if _child(n) in children}
    if not shared:
        raise UserError(f"{folder}: shares no tensor with the base: another architecture")
    _say({_child(n) for n in state} - children, f"in {name}, not in the base: left out")
    return shared


def _kept(base: State, states: Mapping[str, Mapping[str, Value]]) -> set[str]:
    """The tensors that stay the base's: parts that no expert has, and heads of other shapes.

    Raises:
        UserError: an expert has a tensor, in a part that is merged, that the base lacks.
    """
    whole = {e: s for e, s in states.items() if not any(isinstance(v, LowRank) for v in s.values())}
    children = {_child(n) for n in base}
    own = {c for c in children if whole and not any(_child(n) == c for s in whole.values() for n in s)}
    for state in whole.values():
        own |= {_child(n) for n, t in state.items() if n in base and t.shape != base[n].shape} & {*HEADS}
    _say(own, "the experts differ in it or have none: the base's is kept")
    for expert, state in whole.items():
        foreign = [n for n in state if n not in base and _child(n) not in own]
        if foreign:
            raise UserError(f"expert {expert}: the base has no tensor {min(foreign)}: another architecture")
        missing = [n for n in base if n not in state and _child(n) not in own]
        if missing:
            raise UserError(f"expert {expert}: tensor {min(missing)} is missing: not trained from this base?")
    return {n for n in base if _child(n) in own}


def _deltas(base: State, states: Mapping[str, Mapping[str, Value]], device: torch.device) -> Deltas:
    """The deltas of the tensors that an expert has, in the widest dtype that a tensor has."""
    changed = [n for n in base if any(n in state for state in states.values())]
    start: dict[str, Tensor] = {}
    placed: dict[str, dict[str, Value]] = {expert: {} for expert in states}
    for name in changed:
        values = {expert: state.get(name, base[name]) for expert, state in states.items()}
        dtype = base[name].dtype
        for value in values.values():
            dtype = torch.promote_types(dtype, value.dtype) if isinstance(value, Tensor) else dtype
        start[name] = base[name].to(device, dtype)
        for expert, value in values.items():
            placed[expert][name] = value.to(device) if isinstance(value, LowRank) else value.to(device, dtype)
    return Deltas(start, placed)


def _added(base: State, merged: Merged, weights: Deltas, dtype: str | None) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the merged model, in the order of the base: one at a time is made."""
    for name, theta in tqdm(base.items(), desc="merge", mininterval=1):
        made = next(merged)[1].add_(weights.base[name]) if name in weights.base else theta
        yield name, made.to("cpu", _stored(theta, dtype)).contiguous()


def _write(folder: Path, tensors: Iterator[tuple[str, Tensor]], base: State, dtype: str | None) -> None:
    """Write tensors to one file, or to shards and their index; a shard is let go once it is whole."""
    shapes = {n: torch.empty(t.shape, dtype=_stored(t, dtype), device="meta") for n, t in base.items()}
    plan = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)
    shards: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors:
        file = plan.tensor_to_filename[name]
        shards.setdefault(file, {})[name] = tensor
        if len(shards[file]) == len(plan.filename_to_tensors[file]):
            save_file(shards.pop(file), folder / file, {"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)


def _copy(base: Path, folder: Path, dtype: str | None) -> None:
    """Copy what the base is loaded and read with, all but its weights."""
    for pattern in FILES:
        for file in base.glob(pattern):
            if ".safetensors" not in file.name:
                shutil.copyfile(file, folder / file.name)
    config = folder / "config.json"
    if dtype and config.exists():
        written = read_json(config)
        key = "dtype" if "dtype" in written else "torch_dtype"
        write_json(config, {**written, key: dtype})


def _stored(theta: Tensor, dtype: str | None) -> torch.dtype:
    """The dtype in which a tensor of the base is written."""
    return getattr(torch, dtype) if dtype and theta.is_floating_point() else theta.dtype


def _child(name: str) -> str:
    """The part of the model that a tensor belongs to: the first of its name."""
    return name.split(".")[0]


def _say(parts: set[str], what: str) -> None:
    if parts:
        print(f"remerge: {', '.join(sorted(parts))}: {what}", file=sys.stderr)
