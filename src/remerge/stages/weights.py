"""Properties of experts' weights that matter for merging, without running a model.

The cosines of their task vectors (DivMerge, Figure 6); the agreement of their signs after pruning in the
original and in the joint space (DRM, Table 4 and Figure 5); the share of each basis vector that pruning drops
(DRM, Figure 3).
"""

from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from remerge.config import Config, digest
from remerge.deltas import Deltas, layer_of, without_tf32
from remerge.errors import UserError
from remerge.measures.similarity import cosines, dropped, sign_counts
from remerge.methods.decomposition._basis import linear_weights, stacked
from remerge.methods.decomposition._drm import coordinates, kept, largest
from remerge.records import Dropped, Signs, Weights
from remerge.stages._bench import Bench
from remerge.stages._code import code

DENSITY = 0.2
"""The share of entries kept to compare signs: DRM's default."""

HALF = 0.5
"""The share of entries kept to count what is dropped from each basis vector (DRM, Figure 3)."""


Found = list[list[float]] | dict[str, list[list[float]]]
"""What the journal keeps: the cosines, the tallies of a matrix by space, or the dropped shares by kind."""


def run(config: Config) -> None:
    """Measure how similar experts' weights are: cosines, sign agreement after pruning, and what is pruned."""
    made(Bench(config)).write(config.folder)


@without_tf32()
def made(bench: Bench) -> Weights:
    """The record; counts of an earlier run come from the journal."""
    config, tasks = bench.config, list(bench.config.tasks)
    deltas = bench.deltas(dict.fromkeys(tasks, 1))
    prints = bench.space.contents("base", *tasks)
    follows = digest(tasks, prints, code(config, Path(__file__)))
    journal = bench.space.journal(Found, "weights")
    matrices = linear_weights(deltas)
    tallies = [
        journal.recall(digest(follows, "signs", name), partial(_signs, deltas, name))
        for name in tqdm(matrices, desc="signs", mininterval=1)
    ]
    middle = _middle(matrices)
    return Weights(
        benchmark=config.benchmark,
        experts=tasks,
        cosines=journal.recall(digest(follows, "cosines"), partial(_cosines, deltas)),
        matrices=len(matrices),
        density=DENSITY,
        signs=Signs(**{space: _sum([tally[space] for tally in tallies]) for space in Signs.model_fields}),
        dropped=Dropped(
            matrix=middle,
            share=1 - HALF,
            **journal.recall(digest(follows, "dropped"), partial(_dropped, deltas, middle)),
        ),
    )


def _cosines(deltas: Deltas) -> list[list[float]]:
    """The cosines of whole task vectors: all merged tensors of an expert as one vector."""
    found = cosines(sum((deltas.gram(name) for name in deltas), torch.zeros(())))
    for task, zero in zip(deltas.experts, found.diagonal().isnan(), strict=True):
        if zero:
            raise UserError(f"tasks.{task}: its expert's weights equal the base's: train or name another")
    return [[round(value, 6) for value in row] for row in found.tolist()]


def _signs(deltas: Deltas, name: str) -> dict[str, list[list[int]]]:
    """The signs of one matrix in each space, as in `Signs`."""
    tau = deltas[name]
    found = {"unpruned": sign_counts(tau)}
    found["original"] = sign_counts(tau.mul_(largest(tau.clone(), DENSITY, "individual")))
    del tau
    for space, vertical in (("horizontal", False), ("vertical", True)):
        U, C = coordinates(stacked(deltas, name), vertical)
        C.mul_(kept(C, DENSITY))
        found[space] = sign_counts(C)
        found[f"{space}_back"] = sign_counts(U @ C)
    return {space: tally.tolist() for space, tally in found.items()}


def _dropped(deltas: Deltas, name: str) -> dict[str, list[list[float]]]:
    """The share of each basis vector that is dropped if half of all entries stay, renormalised or not."""
    _, C = coordinates(stacked(deltas, name), vertical=False)
    shares = {how: dropped(kept(C, HALF, how == "renormalised")) for how in ("plain", "renormalised")}
    return {how: [[round(x, 4) for x in row] for row in share.tolist()] for how, share in shares.items()}


def _middle(matrices: list[str]) -> str:
    """The first matrix of the middle layer, such as the 6th of 12."""
    layers = list(dict.fromkeys(layer_of(name) for name in matrices))
    blocks = [layer for layer in layers if layer != "other"] or layers
    middle = blocks[(len(blocks) - 1) // 2]
    return next(name for name in matrices if layer_of(name) == middle)


def _sum(tallies: list[list[list[int]]]) -> list[list[int]]:
    return torch.tensor(tallies).sum(dim=0).tolist()
