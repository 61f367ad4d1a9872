"""Every stage of a benchmark up to its merges, in this process: `python every_stage.py CONFIG`.

It prints what the pretended GPU has done, if there is one.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

import pretended

from remerge.batches import batches
from remerge.commands import prepare
from remerge.config import load
from remerge.methods import find
from remerge.stages import base, batch, data, divergences, experts, references, scores, statistics, weights
from remerge.stages._bench import Bench

EPOCHS = (1, 4)
"""Of two runs of learning, whose steps must not make the CPU wait."""


def main() -> None:
    """Do all of it."""
    config = load(Path(sys.argv[1]))
    prepare(config)
    base.run(config)
    for task in config.tasks:
        data.run(config, task)
    for task in config.tasks:
        experts.run(config, task)
    scores.run(config)
    for task in config.tasks:
        references.run(config, task)
        for kind in () if config.finetune.linear else ("fisher", "grams"):
            statistics.run(config, task, kind)
    divergences.run(config)
    weights.run(config)
    for name in batches(config):
        batch.run(config, name)
    if pretended.VARIABLE in os.environ:
        print(json.dumps(learning(config)))


def learning(config) -> dict:
    """How many steps were played, and how often the CPU waited in a short and in a longer run of learning."""
    library = ctypes.CDLL(os.environ[pretended.VARIABLE])
    waits = []
    for epochs in EPOCHS:
        method = find("divmerge")
        settings = method.settings({"level": "layer", "inputs": 6, "epochs": epochs})
        before = library.waits_so_far()
        Bench(config).fit(method, settings, [*config.tasks], 0)
        waits.append(library.waits_so_far() - before)
    return {"played": pretended.CUDAGraph.played, "waits": waits, "operations": library.operations_so_far()}


if __name__ == "__main__":
    main()
