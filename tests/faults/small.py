"""A finished run of seconds, without Snakemake: every kind of file that a run makes."""

from pathlib import Path
from typing import Any

import yaml

from remerge import config as configuration
from remerge import miniature
from remerge.__main__ import main
from remerge.config import Config

TASKS = ("cola", "mnli", "sst2")
RUN = Path("results/small")
CONFIG = str(RUN / "config.yaml")
LEARNED = "divmerge@epochs=1,inputs=6,learning_rate=0.02,tuned"
TABLES = {name: ["tables", name] for name in ("experts", "pairs", "seconds", "selection")}
GRID = {"inputs": 6, "epochs": 1, "learning_rate": 0.02, "initial": {"tune": [0.5, "1/T"]}}


def settings(benchmark: str = "small") -> dict[str, Any]:
    """A tuned learned method, one of statistics, and one of neither."""
    tasks = {
        task: {
            "source": "miniature",
            "prompt": miniature.FORMATS[task].prompt,
            "answers": list(miniature.FORMATS[task].answers),
            "sizes": {"train": 200, "validation": 16, "test": 16},
        }
        for task in TASKS
    }
    size = {"hidden": 32, "layers": 1, "heads": 2, "intermediate": 32, "steps": 20}
    return {
        "benchmark": benchmark,
        "base": {"source": "miniature", "miniature": size},
        "tasks": tasks,
        "finetune": {"learning_rate": 1e-2, "steps": 60, "batch_size": 16},
        "merge": {"variants": ["average", "fisher", {"divmerge": GRID}]},
        "plans": {"subsets": {"tune_on": ["cola+sst2"], "sizes": [2]}},
        "statistics": {"inputs": 4},
        "evaluation": {"watch": 2},
    }


def stages(config: Config) -> list[list[str]]:
    """Every stage of a run, as it is called, but for the configuration."""
    tasks = list(config.tasks)
    variants = config.merge.variants
    tuned = [variant.name for variant in variants if config.is_tuned(variant)]
    kinds = ["fisher"] if any(variant.method == "fisher" for variant in variants) else []
    return [
        ["base"],
        *(["data", task] for task in tasks),
        ["lengths"],
        *(["experts", model] for model in config.models[1:]),
        *(["references", task] for task in tasks),
        *(["statistics", task, kind] for task in tasks for kind in kinds),
        ["scores"],
        ["divergences"],
        ["weights"],
        ["alignment"],
        *(["selection", variant, "subsets"] for variant in tuned),
        *(["merges", variant.name, group] for variant in variants for group in config.groups(variant)),
    ]


def finish(raw: dict[str, Any]) -> Config:
    """Make the run of these settings in the working directory."""
    file = Path(f"{raw['benchmark']}.yaml")
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    config = configuration.load(file)
    config.folder.mkdir(parents=True)
    (config.folder / "config.yaml").write_text(configuration.dump(config))
    for stage, *arguments in stages(config):
        assert main([stage, str(config.folder / "config.yaml"), *arguments]) == 0, stage
    return config
