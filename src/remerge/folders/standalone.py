"""One merge without a pipeline: checkpoint folders in, a checkpoint folder out, of any architecture."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from remerge.checkpoints.models import device_of, locate
from remerge.checkpoints.stored import stored_tensors
from remerge.deltas import Deltas, Merged, State, added, dtype_name, rounded
from remerge.errors import UserError
from remerge.files import read_settings, write_folder
from remerge.folders.adapter import HINT as ADAPTER_HINT
from remerge.folders.adapter import adapter_of, exact, nearest, rounded_factors
from remerge.folders.card import model_card, shown, shown_base
from remerge.folders.experts import name_in
from remerge.folders.inputs import Inputs, check_tokens, head_file, named, read_inputs
from remerge.folders.mergekit import (
    check_adapters,
    check_stored,
    from_nothing,
    merged_parts,
    parts_of,
    read_recipe,
    stacked,
    stay,
    with_tokens,
)
from remerge.folders.output import copied, copy, stored_dtype, write_weights
from remerge.folders.recipe import HINT, RECIPE, recipe_of, reference
from remerge.methods import Method, find
from remerge.notes import note
from remerge.variants import value_of

DECODERS = ("ForCausalLM", "LMHeadModel")
"""How the names of decoders' classes end."""


def merge_folders(
    method: str,
    base: str,
    experts: Sequence[str],
    out: Path,
    params: Sequence[str] = (),
    dtype: str | None = None,
    device: str = "auto",
    adapter: bool = False,
    rank: int | None = None,
) -> None:
    """Merge checkpoints of one base into a new folder, with the base's configuration and tokenizer.

    Parts that only one expert has, such as a classifier's head, are not merged: they are written to
    `heads/<expert>.safetensors`, and the base's is kept, with a note of both on standard error.

    Args:
        method: a method that needs only the weights.
        base: a folder of safetensors, or a hub id.
        experts: the same for each expert, alone or as ``name=folder``; they may be LoRA adapters.
        out: a folder that does not exist, or is empty.
        params: the method's parameters, each as ``name=value``.
        dtype: the dtype of the merged weights; the base's if not given.
        device: where to compute.
        adapter: write one adapter of the base instead of a whole model.
        rank: write the adapter of this rank that is nearest to the merge, with a note of how much it keeps.

    Raises:
        UserError: an unknown method or parameter, a folder that is incomplete or does not fit the base, or a
            merge that is no adapter, or of which one can keep nothing.
    """
    chosen = find(method)
    settings = chosen.alone(_parameters(params))
    _check_out(out)
    sources, place = named(experts), device_of(device)
    inputs = read_inputs(base, sources)
    check_tokens(inputs.base, sources)
    with _enough_memory(place):
        weights = inputs.weights(place)
        merged = chosen.merge(weights, settings)
        factors, told = None, list[str]()
        if rank is not None:
            near = nearest(inputs.base, merged, rank)
            note(f"rank {rank}: {near}")
            factors, told = near.factors, [f"Rank {rank}: {near}."]
        elif adapter:
            factors = exact(method, inputs.base, weights, merged)
        dtypes = {stored_dtype(theta, dtype) for theta in inputs.base.tensors.values()}
        recipe = _recipe(chosen, settings, base, sources, dtypes, inputs) if inputs.are_whole else None
        again = _command(method, base, experts, params, dtype, adapter, rank)
        sections = [*_beside(inputs, factors is not None), *told, *([HINT] if recipe else []), again]
        library = "transformers" if factors is None else "peft"
        card = model_card(out.name, base, sources, chosen, settings, sections, library)

        def save(target: Path) -> None:
            if factors is None:
                _save_whole(target, inputs, merged, weights, dtype)
            else:
                task = _task_type(sources, inputs)
                stored = rounded_factors(factors, dtype or "float32")
                made = adapter_of(inputs.base.model, stored, _anywhere(base), task)
                made.save_pretrained(target, save_embedding_layers=False)
            _save_beside(target, inputs, recipe, card)

        write_folder(out, save)


def merge_recipe(file: Path, out: Path, device: str = "auto", seed: int | None = None) -> None:
    """Merge as a mergekit configuration says.

    Args:
        file: the configuration.
        out: a folder that does not exist, or is empty.
        device: where to compute.
        seed: the seed of random masks, by default 0.

    Raises:
        UserError: no remerge method makes the merge that the file asks for, or as in `merge_folders`.
    """
    asked = read_recipe(file)
    found = {
        # So that the message about a missing model names the file.
        source: locate(source, key=f"{file}: {'models' if source in asked.experts else 'base_model'}")
        for source in [asked.base, *asked.experts]
    }
    folders, in_place = (found[asked.base], [found[e] for e in asked.experts]), stay(asked, found.values())
    check_adapters(asked, in_place, *folders)
    _check_out(out)
    sources, place, dtype = named(asked.experts), device_of(device), asked.dtype
    inputs = read_inputs(asked.base, sources) if in_place else stacked(asked, sources)
    parts = parts_of(asked, inputs.base, found, seed)
    check_stored(asked, parts, *folders)
    inputs = with_tokens(asked, inputs, sources, found)
    if asked.method == "passthrough":
        inputs = from_nothing(inputs)
    with _enough_memory(place):
        weights = inputs.weights(place)
        merged = merged_parts(parts, weights, {source: name for name, source in sources.items()})
        # Lists of one entry for each layer, as `layer_types`, mergekit leaves as they are.
        same = inputs.are_whole and not any(isinstance(value, list) for value in inputs.settings.values())
        recipe = asked.written(lambda model: reference(_anywhere(model))) if same else None
        again = ["Made from this mergekit configuration:", _fenced("yaml", _dumped(asked.written(shown)))]
        hints = [*([HINT] if recipe else []), *([_masks(seed)] if any(p.random for p in parts) else [])]
        sections = [*_beside(inputs, adapter=False), *hints, *again]
        settings = parts[0].settings if len(parts) == 1 else {}
        card = model_card(out.name, asked.base, sources, parts[0].method, settings, sections)

        def save(target: Path) -> None:
            _save_whole(target, inputs, merged, weights, dtype)
            _save_beside(target, inputs, recipe, card)

        write_folder(out, save)


@contextmanager
def _enough_memory(place: torch.device) -> Iterator[None]:
    """Where a GPU's memory may be too small, say so in one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(f"{place}: base and experts do not fit into its memory: use --device cpu") from None


def _save_whole(target: Path, inputs: Inputs, merged: Merged, weights: Deltas, dtype: str | None) -> None:
    """The merged model, with the base's configuration, and a tokenizer."""
    copy(inputs.base.folder, target, dtype, inputs.settings, tokenizer=inputs.tokenizer is None)
    if inputs.tokenizer is not None:
        inputs.tokenizer.save_pretrained(target)
    write_weights(target, _added(inputs.base.tensors, merged, weights, dtype), inputs.base, dtype)


def _save_beside(target: Path, inputs: Inputs, recipe: Mapping[str, Any] | None, card: str) -> None:
    """Heads that are not merged, mergekit's recipe if it makes the same merge, and the card."""
    for name, expert in inputs.experts.items():
        if expert.own:
            (target / "heads").mkdir(exist_ok=True)
            save_file({n: t.clone() for n, t in expert.own.items()}, target / head_file(name))
    if recipe:
        (target / RECIPE).write_text(_dumped(recipe), "utf-8")
    (target / "README.md").write_text(card, "utf-8")


def _dumped(recipe: Mapping[str, Any]) -> str:
    return yaml.safe_dump({**recipe}, sort_keys=False)


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _check_out(out: Path) -> None:
    """Refuse a folder that has something in it, or in which the shell is."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: give another --out")
    if out.resolve() == Path.cwd():
        # It is replaced as a whole, and a shell would stay in the one that was there.
        raise UserError(f"{out} is the folder in which remerge was called: give a folder in it as --out")


def _parameters(params: Sequence[str]) -> dict[str, Any]:
    """Parameters from ``name=value``."""
    found: dict[str, Any] = {}
    for written in params:
        name, equals, value = written.partition("=")
        if not equals:
            raise UserError(f"--param {written!r}: write name=value")
        if name in found:
            raise UserError(f"--param {written!r}: {name} is given twice: leave one out")
        found[name] = value_of(value)
    return found


def _task_type(sources: Mapping[str, str], inputs: Inputs) -> str | None:
    """PEFT's name for what adapters are for, if it is the same for all, and none has a head of its own."""
    if any(expert.own for expert in inputs.experts.values()):
        return None
    configs = [locate(source) / "adapter_config.json" for source in sources.values()]
    types = {read_settings(path).get("task_type") for path in configs if path.is_file()}
    if not types and type(inputs.base.model).__name__.endswith(DECODERS):
        return "CAUSAL_LM"
    return types.pop() if len(types) == 1 else None


def _command(
    method: str,
    base: str,
    experts: Sequence[str],
    params: Sequence[str],
    dtype: str | None,
    adapter: bool,
    rank: int | None,
) -> str:
    """The command that makes the merge again, for other readers."""
    words = ["remerge merge", f"--method {method}", f"--base {quote(shown_base(base))}"]
    for name, source in map(name_in, experts):
        words.append(f"--expert {quote(f'{name}={shown(source)}' if name else shown(source))}")
    words += [f"--param {quote(param)}" for param in params]
    words += [*([f"--dtype {dtype}"] if dtype else []), *(["--adapter"] if adapter else [])]
    words += [*([f"--rank {rank}"] if rank else []), "--out …"]
    return _fenced("sh", " \\\n  ".join(words))


def _beside(inputs: Inputs, adapter: bool) -> list[str]:
    """What the folder is, and the files beside the merged weights."""
    copies = ", ".join(f"`{file}`" for file in copied(inputs.base.folder, inputs.tokenizer is None))
    told = [ADAPTER_HINT if adapter else f"Copied from the base: {copies}."]
    heads = [name for name, expert in inputs.experts.items() if expert.own]
    if heads:
        files = ", ".join(f"`{head_file(name)}`" for name in heads)
        told.append(
            f"Not merged, since the base has no such tensors: {files}. To use one, load the folder with the "
            "expert's class, then `model.load_state_dict(load_file(file), strict=False)`."
        )
    return told


def _masks(seed: int | None) -> str:
    return (
        f"The random masks were drawn with seed {seed or 0}, by the names of models (above) and tensors; "
        "mergekit's differ at every run."
    )


def _recipe(
    method: Method,
    settings: Mapping[str, Any],
    base: str,
    experts: Mapping[str, str],
    dtypes: Collection[torch.dtype],
    inputs: Inputs,
) -> dict[str, Any] | None:
    """mergekit's recipe for a merge of whole models with nothing left unmerged.

    mergekit would merge heads and add adapters in a precision of its own, and it writes a single dtype.
    """
    if len(dtypes) > 1:
        return None
    (dtype,) = dtypes
    found = {name: _anywhere(source) for name, source in experts.items()}
    stored = stored_tensors(inputs.base.folder)
    return recipe_of(method, settings, _anywhere(base), found, {}, dtype_name(dtype), stored)


def _anywhere(source: str) -> str:
    """A model's hub id, or its folder's absolute path."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


def _added(base: State, merged: Merged, weights: Deltas, dtype: str | None) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the merged model, made one at a time, in the order of the base."""
    for name, theta in tqdm(base.items(), desc="merge", mininterval=1):
        made = added(weights.base[name], next(merged)[1]) if name in weights.base else theta
        yield name, rounded(name, made, stored_dtype(theta, dtype)).cpu().contiguous()
