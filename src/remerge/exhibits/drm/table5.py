"""Paired t-tests of DRM-H against others.

One-sided: p is the probability of a lead of DRM-H at least as large if both methods were equal. Each pair
holds two normalised scores, a merge's share of the expert's own score; the pairs are every task in every
subset of a size. Lead: the mean difference, in points of ANP. Bold: p below 0.05. The test assumes
independent pairs, but these share tasks and experts. The paper's table is for CLIP ViT-B/32; the base here is
{base}; for sizes with more than ten subsets the paper drew ten, which differ from ours.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._paired import paired
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("merges",)


def applies(config: Config) -> bool:
    """Whether tasks are of images, and there are DRM-H and averaging."""
    names = {variant.name for variant in config.makers(max(config.sizes))}
    return config.base.reads == "image" and {"drm_h", "average"} <= names


def build(run: Run) -> Table:
    """One row per size: the paper's table transposed."""
    return paired(run, Published(__file__, run.benchmark))
