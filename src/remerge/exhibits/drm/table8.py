"""Pruning all tasks together or each by itself.

Test score in % on each task, under {what}: with one threshold for the entries of all tasks, or with one
threshold per task. Bold: the best merge in a column. The paper prints only averages.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._ablation import ablation
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
ROWS = {
    "drm_h@pruning=individual": ("DRM-H, individual", "DRM-H Individual"),
    "drm_h": ("DRM-H, joint", "DRM-H Joint"),
    "drm_v@pruning=individual": ("DRM-V, individual", "DRM-V Individual"),
    "drm_v": ("DRM-V, joint", "DRM-V Joint"),
}


def applies(config: Config) -> bool:
    """Whether DRM is also merged both ways."""
    return {"drm_h", "drm_h@pruning=individual", "drm_v", "drm_v@pruning=individual"} <= {
        variant.name for variant in config.merge.variants
    }


def build(run: Run) -> Table:
    """One row per method and way of pruning."""
    return ablation(run, Published(__file__, run.benchmark), ROWS)
