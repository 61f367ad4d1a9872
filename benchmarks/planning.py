"""The time that Snakemake takes to plan a campaign, and the number of files that the campaign writes.

    python benchmarks/planning.py

The campaign has ten tasks, subsets of two or more of them, and a hundred variants of four methods, in one job
per method and in eight; nothing is run. The table is printed as markdown; seconds are CPU time.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from remerge import config as configuration

ROOT = Path(__file__).resolve().parents[1]
TASKS = 10
METHODS = {"task_arithmetic": "scale", "ties": "density", "dare": "density", "breadcrumbs": "density"}
VARIANTS = 100
CAMPAIGNS: tuple[dict[str, int], ...] = ({"at_most": 12}, {})
"""Settings of the subsets: at most twelve of each size, or all."""


def campaign(subsets: dict[str, int]) -> dict[str, Any]:
    """A configuration of a hundred variants."""
    task = {"source": "nyu-mll/glue", "subset": "cola", "prompt": "{sentence}", "answers": ["no", "yes"]}
    values = [round(0.1 + 0.03 * place, 2) for place in range(VARIANTS // len(METHODS))]
    return {
        "benchmark": "campaign",
        "base": {"family": "causal_lm", "source": "Qwen/Qwen2.5-0.5B"},
        "tasks": {f"task{place}": task for place in range(TASKS)},
        "merge": {"variants": [{name: {key: value}} for name, key in METHODS.items() for value in values]},
        "plans": {"subsets": {"sizes": list(range(2, TASKS + 1)), **subsets}},
    }


def merges(config: Path) -> int:
    """The number of merges that a configuration asks for."""
    asked = configuration.load(config)
    return VARIANTS * sum(len(asked.subsets(size)) for size in asked.sizes)


def plan(config: Path, shards: int) -> tuple[float, int]:
    """The seconds for Snakemake's summary of a run that has not begun, and the number of files it lists."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", config]
    command += ["--directory", config.parent, "--cores", 2, "--scheduler", "greedy", "--summary"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*map(str, command), "--config", f"shards={shards}"],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, sum(line.startswith("results/") for line in done.stdout.splitlines())


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print("| merges | shards | files | seconds |\n| ---: | ---: | ---: | ---: |")
    for subsets in CAMPAIGNS:
        for shards in (1, 8):
            with tempfile.TemporaryDirectory() as folder:
                config = Path(folder) / "campaign.yaml"
                config.write_text(yaml.safe_dump(campaign(subsets)))
                seconds, files = plan(config, shards)
                print(f"| {merges(config):,} | {shards} | {files:,} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
