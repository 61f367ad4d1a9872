"""The miniature world: a controlled English, its seven tasks, and the models pretrained on it.

It needs no network: `examples` generates the data of a task in the columns of the public dataset,
`corpus` the text that a base is pretrained on; `pretrain.py` makes the base, `vocabulary.py` its tokenizer.
"""

from remerge.tasks.miniature.corpus import Document, corpus
from remerge.tasks.miniature.glue import FORMATS, Format, examples

__all__ = ["FORMATS", "Document", "Format", "corpus", "examples"]
