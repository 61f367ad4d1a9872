"""Real runs of seconds, without Snakemake."""

from pathlib import Path
from typing import Any

import yaml

from remerge import config as configuration
from remerge.batches import batches
from remerge.config import Config
from remerge.stages import alignment, base, batch, data, experts, references, scores


def finish(raw: dict[str, Any]) -> Config:
    """Every stage of a configuration that the slides' exhibits read, in the working directory."""
    path = Path(f"{raw['benchmark']}.yaml")
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    config = configuration.load(path)
    config.folder.mkdir(parents=True)
    (config.folder / "config.yaml").write_text(configuration.dump(config))
    base.run(config)
    for task in config.tasks:
        data.run(config, task)
        experts.run(config, task)
        references.run(config, task)
    scores.run(config)
    alignment.run(config)
    for name in batches(config):
        batch.run(config, name)
    return config
