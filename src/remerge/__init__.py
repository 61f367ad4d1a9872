"""remerge: the reproducible experiment pipeline of the model-merging papers.

`methods()` lists the merge methods; `merge(name, base, experts, **params)` merges state dicts, or
transformers and PEFT models; `Benchmark.open("results/demo")` reads a finished run.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remerge import methods as methods
    from remerge.benchmark import Benchmark as Benchmark
    from remerge.merging import merge as merge

PUBLIC = {"merge": "merging", "Benchmark": "benchmark"}
"""The public names, and the module of each."""


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; the workflow and the report do without it.
    if name == "methods":
        return importlib.import_module("remerge.methods")
    if name in PUBLIC:
        return getattr(importlib.import_module(f"remerge.{PUBLIC[name]}"), name)
    raise AttributeError(f"module 'remerge' has no attribute {name!r}")
