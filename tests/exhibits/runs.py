"""Real runs of seconds, without Snakemake."""

from pathlib import Path
from typing import Any

import yaml

from remerge import config as configuration
from remerge.config import Config
from remerge.stages import alignment, base, data, experts, merges, references, scores, selection


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
    for variant in config.merge.variants:
        plans = config.groups(variant)
        for plan in {*plans.values()} if config.is_tuned(variant) else ():
            selection.run(config, variant.name, plan)
        for group in plans:
            merges.run(config, variant.name, group)
    return config
