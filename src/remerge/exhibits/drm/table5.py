"""Paired t-tests of DRM-H against others.

One-sided: p is how likely so large a lead of DRM-H is, were both methods equal. Pairs are normalised scores,
a merge's share of the expert's own, of every subset of a size and every task in it; lead: their mean
difference in points of ANP. Bold: p below 0.05. Pairs share tasks and experts, which the test takes for
independent. The paper's table is of CLIP ViT-B/32, this one of {base}; of sizes that have more than ten
subsets it drew ten others.
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.drm._paired import paired
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("merges",)


def applies(config: Config) -> bool:
    """Of images, where there are DRM-H and averaging."""
    names = {variant.name for variant in config.merge.variants}
    kind = config.base.family == "clip"
    return kind and {"drm_h", "average"} <= names


def build(run: Run) -> Table:
    """A row a size: the paper's table transposed."""
    return paired(run, Published(__file__, run.benchmark))
