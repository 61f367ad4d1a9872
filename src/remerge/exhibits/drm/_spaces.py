"""The spaces in which signs are compared, as named in the paper's Table 4."""

SPACES = {
    "unpruned": ("Original weights, unpruned", "original", None),
    "original": ("Original weights", "original", "Original Weight"),
    "horizontal": ("DRM-H's joint space", "joint", "Horizontal DS"),
    "horizontal_back": ("DRM-H's joint space", "original", "Horizontal OS"),
    "vertical": ("DRM-V's joint space", "joint", "Vertical DS"),
    "vertical_back": ("DRM-V's joint space", "original", "Vertical OS"),
}
"""The vectors that are pruned, the space in which signs are compared, and the paper's row."""
