"""remerge: the reproducible experiment pipeline of the model-merging papers.

`methods()` lists the merge methods; `merge(name, base, experts, **params)` computes one on plain state dicts.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remerge import methods as methods
    from remerge.methods import merge as merge


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; the workflow and the report do without it.
    if name == "methods":
        return importlib.import_module("remerge.methods")
    if name == "merge":
        return importlib.import_module("remerge.methods").merge
    raise AttributeError(f"module 'remerge' has no attribute {name!r}")
