"""A copy of the project with a benchmark of seconds, whose files may be edited."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from remerge import miniature

ROOT = Path(__file__).parent.parent


def asked(task: str) -> dict:
    form = miniature.FORMATS[task]
    return {
        "source": "miniature",
        "prompt": form.prompt,
        "answers": list(form.answers),
        "sizes": {"train": 300, "validation": 24, "test": 24},
    }


def settings() -> dict:
    return {
        "benchmark": "seconds",
        "paper": "divmerge",
        "base": {
            "source": "miniature",
            "miniature": {"hidden": 32, "layers": 1, "heads": 2, "intermediate": 32, "steps": 20},
        },
        "tasks": {task: asked(task) for task in ("cola", "mnli", "sst2")},
        "finetune": {"learning_rate": 1e-2, "steps": 80, "batch_size": 16},
        "merge": {
            "variants": ["average", {"divmerge": {"level": "task"}}],
            "defaults": {
                "divmerge": {
                    "inputs": 6,
                    "epochs": 1,
                    "learning_rate": 0.02,
                    "initial": {"tune": [0.5, "1/T"]},
                }
            },
        },
        "plans": {"subsets": {"tune_on": ["cola+sst2"]}},
        "evaluation": {"watch": 3},
    }


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
        for name in ("src", "workflow", "config"):
            shutil.copytree(ROOT / name, folder / name)
        self.results = folder / "results/seconds"
        self.write(settings())

    def write(self, raw: dict) -> None:
        (self.folder / "seconds.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        start = [sys.executable, "-m", "snakemake", "--configfile", "seconds.yaml", "--cores", "2"]
        return [*start, "--scheduler", "greedy", *arguments]

    @property
    def environment(self) -> dict:
        return os.environ | {"PYTHONPATH": str(self.folder / "src"), "HF_HUB_OFFLINE": "1"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def planned(self, *arguments: str) -> set[str]:
        """The rules that a dry run would run."""
        done = self.run("--dry-run", *arguments)
        assert done.returncode == 0, done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        counts = lines[lines.index("Job stats:") + 3 :] if "Job stats:" in lines else []
        return {line.split()[0] for line in counts[: counts.index("")]} - {"total"} if counts else set()

    def scores(self) -> dict:
        """Everything in the records that does not tell time."""
        return scores(self.results)


def scores(results: Path) -> dict:
    """Everything in a run's records that does not tell time."""
    found = {}
    for path in sorted(results.glob("merges/*/*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(results))] = [line | {"seconds": None, "memory": None} for line in lines]
    for path in sorted(results.glob("[sd]*s/*.json")):
        found[f"{path.parent.name}/{path.name}"] = json.loads(path.read_text())
    return found
