"""The base: found on the hub or on disk, or pretrained here in miniature."""

import time
from typing import Any

from remerge.checkpoints.models import locate
from remerge.config import Config
from remerge.families import family
from remerge.files import write_folder
from remerge.stages._models import model_record
from remerge.stages._workspace import Workspace


def run(config: Config) -> None:
    """Find the base, or pretrain the miniature one, and record where its weights are."""
    space, started = Workspace(config), time.perf_counter()
    folder, training = space.folder / "base", dict[str, Any]()
    if config.base.source == "miniature":
        from remerge.miniature.pretrain import pretrain

        sizes = config.base.miniature.model_dump()
        write_folder(folder, lambda empty: training.update(pretrain(empty, seed=config.seed, **sizes)))
    else:
        folder = locate(config.base.source, config.base.revision, "base.source")
    model = family(config.base.family, folder).load(folder, space.dtype, space.device)
    record = model_record(space, "base", model, config.base.source, folder, started, training or None, {})
    record.write(space.folder, model="base")
