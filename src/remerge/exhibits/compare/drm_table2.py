"""DRM on adapters.

Mean test score in % over the tasks, under the merge of all of them, for LoRA experts, beside the paper's
table, transposed. Tuned: with a validation set. Bold: the best merge in a column. The paper's text says that
tuned DRM-V leads the strongest baseline by 3.9 points; by its table these are 4.9. {differing}
"""

from remerge.config import Config
from remerge.exhibits._published import Published
from remerge.exhibits.compare._averages import averages
from remerge.exhibits.drm._rows import ROWS, TUNED
from remerge.report.run import Run
from remerge.report.table import Table

READS = ("scores", "merges")
NAMES = {**ROWS, "Model averaging": "Averaging", "TIES": "TIES"}


def applies(configs: list[Config]) -> bool:
    """Whether a benchmark merges all of its LoRA experts."""
    drm = [config for config in configs if config.paper == "drm" and config.finetune.lora is not None]
    return any(len(config.tasks) in config.sizes for config in drm)


def build(runs: list[Run]) -> Table:
    """One row per method, one column per model."""
    return averages([run for run in runs if applies([run.config])], published)


def published(run: Run, method: str) -> float:
    """In the paper a method is a column, and tuned methods are a row."""
    row = "Llama 3.1-8B (validation)" if method.endswith(TUNED) else "Llama 3.1-8B"
    return Published(__file__, run.benchmark).value(row, NAMES.get(method.removesuffix(TUNED)))
