"""ANP against the number of tasks.

Mean ANP over all merges of a given number of tasks. Bars: 95% Student t intervals over merges, omitted where
there is a single merge. Methods are shifted slightly sideways to keep them apart. {unmerged} on the same
subsets. Hollow markers: one coefficient per task (TL); filled: one per task and layer (LL).
"""

from pathlib import Path

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.divmerge._rows import ROWS
from remerge.exhibits.general.anp import anp
from remerge.report.figure import Figure
from remerge.report.run import Run

READS = ("scores", "merges")


def applies(config: Config) -> bool:
    """Whether there are several sizes."""
    return len(config.sizes) > 1


def build(run: Run) -> Figure:
    """The paper's values are in its Tables 6 and 7."""
    tables = (Published(Path(__file__).with_name(f"table{n}.csv"), run.benchmark) for n in (6, 7))
    return anp(run, next(filter(None, tables), None), ROWS)
