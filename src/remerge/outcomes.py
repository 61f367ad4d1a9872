"""A model's score on each example of a split, as a short text.

The text is base64 of one bit per example by accuracy and choices (36 letters for 200 examples), or of one
float16 by another metric, in the order of the split, which all models of a benchmark share. Where answers are
judged together, these are the examples' shares of the score (`remerge.measures.together`), in float32. The
options that a model took are another such text.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remerge.config import OF_NUMBERS, OF_TWO, RIGHT_OR_WRONG


def pack(outcomes: Sequence[float] | NDArray[np.float64], metric: str) -> str:
    """Outcomes as text; for accuracy and choices only 0 and 1."""
    if metric in RIGHT_OR_WRONG:
        return b64encode(np.packbits(np.asarray(outcomes, bool)).tobytes()).decode()
    return b64encode(np.asarray(outcomes, _kind(metric)).tobytes()).decode()


def unpack(text: str, metric: str, n: int) -> NDArray[np.float64]:
    """The outcomes of at most ``n`` examples."""
    held = b64decode(text)
    if metric in RIGHT_OR_WRONG:
        return np.unpackbits(np.frombuffer(held, np.uint8)).astype(float)[:n]
    return np.frombuffer(held, _kind(metric)).astype(float)


def _kind(metric: str) -> str:
    """The type of numbers in which outcomes are kept."""
    return "<f4" if metric in (*OF_TWO, *OF_NUMBERS) else "<f2"


def pack_taken(places: Sequence[int], options: int) -> str:
    """The place of the option that was taken in each example, or ``options`` for none, in as few bits."""
    bits = np.asarray(places)[:, None] >> np.arange(options.bit_length())[::-1] & 1
    return b64encode(np.packbits(bits).tobytes()).decode()


def unpack_taken(text: str, options: int, n: int) -> list[int]:
    """The places of the options that were taken in ``n`` examples."""
    width = options.bit_length()
    bits = np.unpackbits(np.frombuffer(b64decode(text), np.uint8))[: n * width].reshape(n, width)
    places: list[int] = (bits @ (1 << np.arange(width)[::-1])).tolist()
    return places
