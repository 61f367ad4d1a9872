"""The miniature world: a controlled English, its tasks, and the models pretrained on it.

It needs no network: `examples` generates the data of a task in the columns of the public dataset, `corpus`
and `pairs` generate the text that bases are pretrained on; `pretrain.py` makes a base and `vocabulary.py`
its tokenizer.
"""

from remerge.miniature.corpus import Document, corpus
from remerge.miniature.glue import Format
from remerge.miniature.pairs import Pair, pairs
from remerge.miniature.splits import FORMATS, TASKS, examples

__all__ = ["FORMATS", "TASKS", "Document", "Format", "Pair", "corpus", "examples", "pairs"]
