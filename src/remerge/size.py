"""The size of a base, from headers of its weights or from the configuration, without a model.

What is not counted assumes one shape: a transformer of P = 12 L h² weights with depth L = h / 64.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from remerge.config import Config
from remerge.headers import weights

VOCABULARY = 152_000
"""Words that an answer may consist of."""

FLOAT32 = 4
"""Bytes of a number."""

SINGLE = frozenset({"F32"})
"""The dtypes of a model that is made here, or of which nothing is known."""

UNKNOWN = 1_000
"""Millions of weights if neither files nor the configuration give their number."""


@dataclass(frozen=True)
class Size:
    """The size of the base.

    Attributes:
        parameters: the number of its weights that are merged.
        dtypes: those in which its weights are stored.
        known: whether it comes from files or the configuration; otherwise `UNKNOWN` is assumed.
    """

    parameters: float
    dtypes: frozenset[str]
    known: bool

    @property
    def width(self) -> int:
        """The bytes of one weight as it is kept in memory."""
        return width_of(self.dtypes)

    @property
    def hidden(self) -> float:
        """The width of a layer, h."""
        return math.cbrt(16 * self.parameters / 3)

    @property
    def widths(self) -> float:
        """The widths of all layers together, L h."""
        return self.hidden**2 / 64

    @property
    def words(self) -> float:
        """The number of words that an answer may begin with."""
        return min(VOCABULARY, self.parameters / self.hidden)


def size_of(config: Config) -> Size:
    """The size of the base: from its files if they are on this machine, else from the configuration."""
    base = config.base
    if base.source == "miniature":
        made = base.miniature
        layer = 4 * made.hidden**2 + 3 * made.hidden * made.intermediate
        # An encoder-decoder has the layers twice; the miniature world has a few thousand words.
        return Size(2 * made.layers * layer + 4_000 * made.hidden, SINGLE, True)
    held = weights(base.source, base.revision)
    # Only the vision tower of a CLIP is merged.
    tower = {name: of for name, of in held.items() if name.startswith("vision_model.")}
    if counted := tower if tower and base.reads == "image" else held:
        return Size(sum(n for n, _ in counted.values()), dtypes_of(counted), True)
    return Size((config.parameters or UNKNOWN) * 1e6, SINGLE, config.parameters is not None)


def dtypes_of(held: Mapping[str, tuple[int, str]]) -> frozenset[str]:
    """The dtypes of tensors, as `remerge.headers.weights` finds them."""
    return frozenset(dtype for _, dtype in held.values())


def width_of(dtypes: frozenset[str]) -> int:
    """The bytes of one weight in memory: of several dtypes, even two half precisions, float32."""
    return FLOAT32 // 2 if dtypes in ({"F16"}, {"BF16"}) else FLOAT32
