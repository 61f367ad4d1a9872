"""The paper's names for the methods, by their names here (Tables 1, 10 to 15)."""

_METHODS = {
    "Model averaging": "Simple Averaging",
    "Task arithmetic": "Task Arithmetic",
    "TIES": "TIES Merging",
    "DARE-TIES": "Dare-TIES",
    "DRM-H": "DRM-H",
    "DRM-V": "DRM-V",
}

TUNED = " (tuned)"
"""The suffix of a method's name where the paper ticks "Validation"."""

ROWS = _METHODS | {ours + TUNED: f"{theirs} (validation)" for ours, theirs in _METHODS.items()}
