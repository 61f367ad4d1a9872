"""DRM on all its benchmarks.

Mean test score in % over the tasks, under the merge of all of them, for each model, with the paper's numbers
beside ours. Tuned: with a validation set. Bold: the best merge in a column. {differing}
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.compare._averages import averages
from remerge.exhibits.drm._rows import ROWS
from remerge.report.labels import MODELS
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
NAMES = {**ROWS, MODELS["experts"]: "Finetune"}


def applies(configs: list[Config]) -> bool:
    """Whether a benchmark merges all of its fully fine-tuned models."""
    drm = [config for config in configs if config.paper == "drm" and config.finetune.lora is None]
    return any(len(config.tasks) in config.sizes for config in drm)


def build(runs: list[Run]) -> Table:
    """One row per method, one column per model."""
    return averages([run for run in runs if applies([run.config])], published)


def published(run: Run, method: str) -> float:
    """The paper has one column for each model."""
    paper = Published(__file__, run.benchmark)
    return paper.value(NAMES.get(method), next(iter(paper.columns), None))
