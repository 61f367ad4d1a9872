"""DRM with and without renormalisation.

Test score in % on each task, under {what}. Without renormalisation, the paper's Equations 5 and 6 are left
out. Bold: the best merge in a column. The paper prints only averages.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._ablation import ablation
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
ROWS = {
    "drm_h": ("DRM-H", "Renorm"),
    "drm_h@renormalise=False": ("Without renormalisation", "No renorm"),
}


def applies(config: Config) -> bool:
    """Whether DRM is also merged without it."""
    return {"drm_h", "drm_h@renormalise=False"} <= {variant.name for variant in config.merge.variants}


def build(run: Run) -> Table:
    """Two rows."""
    return ablation(run, Published(__file__, run.benchmark), ROWS)
