"""Seven tasks on real images: the handwritten digits of scikit-learn, 8×8 pixels in 17 shades of grey.

A hash of its pixels assigns each image to one part (a split or pretraining). However tasks change images, no
part contains anything made from another part's images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from io import BytesIO
from itertools import accumulate, islice
from random import Random
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Split = Literal["train", "validation", "test"]
Part = Literal["train", "validation", "test", "pretraining"]
Pixels = NDArray[np.float64]
"""An image, ``[8, 8]``, from 0 (paper) to 16 (ink)."""

SIDE, INK = 8, 16.0
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TURNS = ("upright", "left", "over", "right")
STRIPES = ("horizontal", "vertical", "rising", "falling")
_SHARES: dict[Part, int] = dict(zip(get_args(Part), (40, 15, 20, 25), strict=True))


@dataclass(frozen=True)
class Source:
    """One image of the data set.

    Attributes:
        pixels: ``[8, 8]``.
        digit: the digit that was written.
    """

    pixels: Pixels
    digit: int


@dataclass(frozen=True)
class Kind:
    """A task.

    Attributes:
        captions: possible captions of an image, with ``{answer}`` for its class.
        answers: the classes in words, by label.
        make: makes an image and its label from a source.
        digits: the digits that it uses.
    """

    captions: tuple[str, ...]
    answers: tuple[str, ...]
    make: Callable[[Source, Random], tuple[Pixels, int]]
    digits: frozenset[int] = frozenset(range(10))


# --- sources -------------------------------------------------------------------------------------


def part_of(pixels: Pixels) -> Part:
    """The part to which an image of the data set belongs."""
    return dealt(pixels.astype(np.uint8).tobytes(), _SHARES)


def dealt(item: bytes, shares: Mapping[Part, int]) -> Part:
    """The part to which an item's hash assigns it; the parts have these shares of all items, in %."""
    bucket = int.from_bytes(blake2b(item, digest_size=8).digest(), "big") % 100
    return next(part for part, end in zip(shares, accumulate(shares.values()), strict=True) if bucket < end)


@cache
def sources(part: Part) -> tuple[Source, ...]:
    """The images of a part."""
    # Imported here: it takes a second, and most readers of this package make no images.
    from sklearn.datasets import load_digits

    found = load_digits()
    pairs = zip(found.images, found.target, strict=True)
    return tuple(Source(pixels, int(digit)) for pixels, digit in pairs if part_of(pixels) == part)


# --- changes to an image -------------------------------------------------------------------------


def turn(pixels: Pixels, quarters: int) -> Pixels:
    """Turn an image to the left by this number of quarter turns."""
    return np.rot90(pixels, quarters)


def invert(pixels: Pixels) -> Pixels:
    """Swap light and dark."""
    return INK - pixels


def shuffle(pixels: Pixels) -> Pixels:
    """Move the sixteen squares of 2×2 pixels, always to the same places."""
    squares = pixels.reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 2, 2)
    moved: Pixels = squares[_PLACES].reshape(4, 4, 2, 2).transpose(0, 2, 1, 3).reshape(SIDE, SIDE)
    return moved


def stripe(pixels: Pixels, direction: int, rng: Random) -> Pixels:
    """Add faint stripes to an image, four pixels apart, in one of the directions of `STRIPES`."""
    row, column = np.indices((SIDE, SIDE))
    across = (row, column, row + column, row - column)[direction]
    wave: Pixels = np.cos(2 * np.pi * (across + rng.randrange(4)) / 4)
    return pixels * 0.75 + 2 * (1 + wave)


def disturb(pixels: Pixels, rng: Random) -> Pixels:
    """Shift an image by up to one pixel and add noise."""
    moved = np.zeros((SIDE + 2, SIDE + 2))
    moved[1:-1, 1:-1] = pixels
    top, left = rng.randrange(3), rng.randrange(3)
    noise = np.random.default_rng(rng.getrandbits(64)).normal(0, 1, pixels.shape)
    return moved[top : top + SIDE, left : left + SIDE] + noise


def grey(pixels: Pixels) -> NDArray[np.uint8]:
    """An image, ``[8, 8]``, from 0 to 255."""
    return (pixels * (255 / INK)).round().clip(0, 255).astype(np.uint8)


def png(pixels: Pixels) -> bytes:
    """The bytes of a PNG file in grey."""
    file = BytesIO()
    Image.fromarray(grey(pixels)).save(file, "png")
    return file.getvalue()


_PLACES = Random("the places of shuffled squares").sample(range(16), 16)


# --- tasks ---------------------------------------------------------------------------------------


def _turned(source: Source, rng: Random) -> tuple[Pixels, int]:
    quarters = rng.randrange(4)
    return turn(source.pixels, quarters), quarters


def _striped(source: Source, rng: Random) -> tuple[Pixels, int]:
    direction = rng.randrange(len(STRIPES))
    return stripe(source.pixels, direction, rng), direction


_NAMED = "the digit {answer}", "a picture of the digit {answer}"

TASKS: dict[str, Kind] = {
    "digit": Kind(_NAMED, NUMBERS, lambda s, _: (s.pixels, s.digit)),
    "parity": Kind(("the {answer} digit",), ("even", "odd"), lambda s, _: (s.pixels, s.digit % 2)),
    # When turned, the other digits look like themselves or like each other.
    "turned": Kind(("the digit turned {answer}",), TURNS, _turned, frozenset(range(2, 8))),
    "inverted": Kind(("the light digit {answer}",), NUMBERS, lambda s, _: (invert(s.pixels), s.digit)),
    "inverted_parity": Kind(
        ("the light {answer} digit",), ("even", "odd"), lambda s, _: (invert(s.pixels), s.digit % 2)
    ),
    "shuffled": Kind(("the shuffled digit {answer}",), NUMBERS, lambda s, _: (shuffle(s.pixels), s.digit)),
    "striped": Kind(("the digit with {answer} stripes",), STRIPES, _striped),
}


def examples(task: str, split: Split, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """`n` different images of a task with their labels: the same for the same seed.

    Each of the split's images is used once before any is reused; reused images are shifted and get noise.

    Returns:
        rows ``{"image": <the bytes of a PNG file>, "label": <the number of the answer>}``.
    """
    kind = TASKS[task]
    pool = [source for source in sources(split) if source.digit in kind.digits]
    rng = Random(f"{task} {split} {seed}")
    drawn: dict[bytes, int] = {}
    again = False
    while len(drawn) < n:
        rng.shuffle(pool)
        for source in pool:
            seen = Source(disturb(source.pixels, rng), source.digit) if again else source
            pixels, label = kind.make(seen, rng)
            drawn.setdefault(png(pixels), label)
        again = True
    return [{"image": image, "label": label} for image, label in islice(drawn.items(), n)]
