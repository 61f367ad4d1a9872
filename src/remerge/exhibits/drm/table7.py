"""DRM without each of its steps.

Test score in % on each task, under {what}. The steps left out: all entries are kept; no entry is dropped for
its sign; the sum is divided by the number of tasks everywhere. Bold: the best merge in a column. The paper
prints only averages.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._ablation import ablation
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
ROWS = {
    "drm_h": ("DRM-H", "DRM-H"),
    "drm_h@prune=False": ("Without pruning", "– Prune"),
    "drm_h@elect=False": ("Without election of signs", "– Elect Sign"),
    "drm_h@disjoint=False": ("Without disjoint averaging", "– Disjoint Average"),
}


def applies(config: Config) -> bool:
    """Whether DRM is also merged without each."""
    return {"drm_h", "drm_h@prune=False", "drm_h@elect=False", "drm_h@disjoint=False"} <= {
        variant.name for variant in config.merge.variants
    }


def build(run: Run) -> Table:
    """One row per step that is left out."""
    return ablation(run, Published(__file__, run.benchmark), ROWS)
