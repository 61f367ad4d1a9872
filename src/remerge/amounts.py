"""How much is done at once or at most, where no configuration says so.

The code that does the work reads these, and so does the code that foretells it, which must not import torch.
"""

ANSWERS_AT_ONCE = 64
"""The number of examples that are answered in one batch."""

POINTS = 50
"""The number of points of a fit at which coefficients are kept, including the start and the end."""

ALIGNED = 100
"""The largest number of validation inputs of each task on which the alignment of experts is measured."""

OPTION = 32
"""Tokens of an answer that is compared with others, often a sentence; of longer ones, a pass has fewer."""
