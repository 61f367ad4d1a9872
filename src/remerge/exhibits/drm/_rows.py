"""What the paper calls methods, by what they are called here (Tables 1, 10 to 15)."""

ROWS = {
    "Model averaging": "Simple Averaging",
    "Task arithmetic": "Task Arithmetic",
    "TIES": "TIES Merging",
    "DARE-TIES": "Dare-TIES",
    "DRM-H": "DRM-H",
    "DRM-V": "DRM-V",
}
