"""Merges: every subset of one size by one variant, in one process that loads base and experts once."""

import json
import time
from functools import partial
from itertools import combinations
from typing import Any

from tqdm import tqdm

from remerge.config import Config, Variant
from remerge.files import write_text
from remerge.methods import find
from remerge.stages._bench import Bench, epochs_of, key_of, selected


def run(config: Config, variant: str, size: int) -> None:
    """Merge and score every subset of one size by one variant, and write the records.

    Merges that an earlier run finished, from the same inputs, are taken from the journal.
    """
    chosen, bench = config.variant(variant), Bench(config)
    journal = bench.space.journal("merges", variant, str(size))
    lines = []
    subsets = list(combinations(sorted(config.tasks), size))
    for subset in tqdm(subsets, desc=f"{variant}, {size} tasks", mininterval=1):
        key = key_of(bench, chosen, subset)
        lines.append(journal.recall(key, partial(_merge_and_score, bench, chosen, subset)))
    records = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(config.folder / "merges" / variant / f"{size}.jsonl", records)


def _merge_and_score(bench: Bench, variant: Variant, subset: tuple[str, ...]) -> dict[str, Any]:
    """One merge's record (the contract of results/README.md)."""
    config, method = bench.config, find(variant.method)
    settings = method.settings(variant.params)
    params, coefficients, trace, fitting = dict(settings), {}, [], 0.0
    bench.deltas(subset)
    started = time.perf_counter()
    if method.learned:
        choice = selected(config, variant.name)
        found = bench.fit(method, settings, choice, subset)
        coefficients, trace, fitting = found.by_name(subset), found.trace, found.seconds
        params |= {
            "learning_rate": choice.learning_rate,
            "initial": choice.start(len(subset)),
            "epochs": epochs_of(config, method),
            "inputs": getattr(config.learning.inputs, settings["level"]),
        }
    else:
        bench.merge(method, settings, subset)
    merging = time.perf_counter() - started - fitting
    started = time.perf_counter()
    scores = bench.scores(subset, "test")
    experts = {task: bench.space.expert_score(task) for task in subset}
    normalised = {task: scores[task]["value"] / experts[task]["value"] for task in subset}
    restricted = [
        scores[task]["restricted"] / experts[task]["restricted"]
        for task in subset
        if scores[task]["restricted"] is not None and experts[task]["restricted"]
    ]
    return {
        "benchmark": config.benchmark,
        "variant": variant.name,
        "method": method.name,
        "params": params,
        "tasks": list(subset),
        "size": len(subset),
        "seed": config.seed,
        "scores": scores,
        "normalised": normalised,
        "anp": 100 * sum(normalised.values()) / len(subset),
        "anp_restricted": 100 * sum(restricted) / len(subset) if len(restricted) == len(subset) else None,
        "coefficients": coefficients,
        "trace": trace,
        "seconds": {"merge": merging, "fit": fitting, "evaluate": time.perf_counter() - started},
    }
