"""How similarly experts process inputs: CKA in each layer, before and after KnOTS's alignment.

Stoica et al. (2025) find that the updates of LoRA experts to a layer are less similar than those of fully
fine-tuned ones, and that KnOTS aligns them. The slides do not say how their figure is made. Here the inputs
x of a layer are the base's own, the same for every expert, and three features are compared:

- W_t x, the layer's outputs; they share W_0 x, and so are similar whatever the experts are,
- ΔW_t x, the task-updates that the slides mention,
- V_t^T x, after KnOTS's [ΔW_1 … ΔW_T] = U Sigma [V_1^T … V_T^T]. Of Sigma V_t^T x, the coordinates in U, CKA
  is exactly that of ΔW_t x, since U is orthonormal: the alignment shows in the V_t, which KnOTS merges. Where
  the joint rank nears the largest possible, as in full fine-tuning, each V_t is nearly a rotation times a
  factor, and CKA is near 1 whatever the experts are.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from remerge.amounts import ALIGNED
from remerge.config import Config, digest
from remerge.deltas import Deltas, layer_of, without_tf32
from remerge.families.linearised import at_the_base
from remerge.measures.curvature import scatters
from remerge.measures.similarity import cka
from remerge.methods.decomposition._basis import joint, linear_weights, stacked
from remerge.records import Aligned, Alignment
from remerge.stages._bench import Bench
from remerge.stages._code import code


def run(config: Config) -> None:
    """Measure how similarly experts process inputs: CKA of each layer's updates, plain and aligned."""
    made(Bench(config)).write(config.folder)


def made(bench: Bench) -> Alignment:
    """The record; results of an earlier run come from the journal."""
    config, tasks = bench.config, list(bench.config.tasks)
    deltas = bench.deltas(dict.fromkeys(tasks, 1))
    prints = bench.space.contents("base", *tasks)
    inputs = [bench.space.split(task, "validation").digest for task in tasks]
    follows = [tasks, prints, inputs, bench.space.precision, ALIGNED]
    key = digest(follows, code(config, Path(__file__)))
    names, journal = linear_weights(deltas), bench.space.journal(list[Aligned], "alignment")
    record = {
        "benchmark": config.benchmark,
        "experts": tasks,
        "adapters": any(deltas.factors(name) is not None for name in names),
        "inputs": _inputs(bench),
        "matrices": journal.recall(key, partial(_aligned, bench, deltas, names)),
    }
    return Alignment.model_validate(record)


def _aligned(bench: Bench, deltas: Deltas, names: list[str]) -> list[dict[str, Any]]:
    """An `Aligned` for every matrix that the base has used and each expert has changed."""
    found = _scatters(bench)
    compared = []
    for name in tqdm([name for name in names if name in found], desc="alignment", mininterval=1):
        likeness = {what: cka(M.double(), found[name]) for what, M in _features(deltas, name).items()}
        if not any(values.isnan().any() for values in likeness.values()):
            rounded = {what: _rounded(values) for what, values in likeness.items()}
            compared.append({"matrix": name, "layer": layer_of(name), **rounded})
    return compared


def _inputs(bench: Bench) -> int:
    """How many inputs of each task there are: as many of one as of any other, so that each counts as much."""
    return min(ALIGNED, *(len(bench.space.split(task, "validation").examples) for task in bench.config.tasks))


def _scatters(bench: Bench) -> dict[str, Tensor]:
    """The scatter matrices of the inputs of the base's layers, over inputs of all tasks."""
    family, count = at_the_base(bench.space.family), _inputs(bench)
    examples = [e for t in bench.config.tasks for e in bench.space.split(t, "validation").examples[:count]]
    # One input per batch: nothing is padded.
    batches = (family.collate([example], bench.space.device) for example in examples)
    return scatters(bench.model, batches, family.logits)


@without_tf32()
def _features(deltas: Deltas, name: str) -> Mapping[str, Tensor]:
    """The maps from a layer's inputs to the compared features, ``[T, …, m]``."""
    # Computed again each time: coordinates may replace the deltas.
    _, C = joint(stacked(deltas, name), absolute=1e-5)
    V = C / C.norm(dim=(0, 2), keepdim=True)
    updates = deltas[name]
    return {"outputs": deltas.base[name].float() + updates, "updates": updates, "aligned": V}


def _rounded(values: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in values.tolist()]
