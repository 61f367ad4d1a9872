"""Snakemake in a child of this process; a copy of the project, to be edited, with a benchmark of seconds."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch  # noqa: F401, so that children have it
import yaml
from huggingface_hub import constants
from snakemake.cli import main

from remerge import job, miniature

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


def snakemake(
    *arguments: str | Path, folder: Path, root: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python -m snakemake …`` with the sources in ``root``, offline.

    In a child of this process, which has imported PyTorch and Snakemake: that takes longer than most plans.
    """
    environment |= {"PYTHONPATH": str(root / "src"), "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            _become([*map(str, arguments)], [out.fileno(), err.fileno()], folder, environment)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read(), err.read())


def _become(arguments: list[str], outputs: list[int], folder: Path, environment: dict[str, str]) -> None:
    """Be Snakemake, in a child, with nothing of remerge imported, and end."""
    status: Any = 1
    try:
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.chdir(folder)
        os.environ |= environment
        constants.HF_HUB_OFFLINE = True
        for name in [name for name in sys.modules if name.partition(".")[0] == "remerge"]:
            del sys.modules[name]
        sys.path.insert(0, environment["PYTHONPATH"])
        sys.argv = ["snakemake", *arguments]
        main(arguments)
    except SystemExit as done:
        status = done.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def planned(*arguments: str | Path, folder: Path, root: Path = ROOT) -> Counter[str]:
    """How many jobs of each rule a dry run would run."""
    done = snakemake("--snakefile", root / "Snakefile", "--dry-run", *arguments, folder=folder, root=root)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (done.stdout + done.stderr).splitlines()
    if "Job stats:" not in lines:
        return Counter()
    stats = [line.split() for line in lines[lines.index("Job stats:") + 3 :]]
    return Counter({rule: int(count) for rule, count in stats[: stats.index([])] if rule != "total"})


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "Snakefile", folder / "Snakefile")
        for name in ("src", "workflow", "config"):
            shutil.copytree(ROOT / name, folder / name)
        self.results = folder / "results/seconds"
        self.environment = os.environ | {"PYTHONPATH": str(folder / "src"), "HF_HUB_OFFLINE": "1"}
        self.arguments = ["--configfile", "seconds.yaml", "--cores", "2", "--scheduler", "greedy"]
        self.write(settings())

    def write(self, raw: dict) -> None:
        (self.folder / "seconds.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        """For a run in a process of its own."""
        return [sys.executable, "-m", "snakemake", *self.arguments, *arguments]

    @contextmanager
    def warm(self) -> Iterator[None]:
        """With a process that has imported the libraries for the jobs of runs that are too short for one."""
        place = tempfile.mkdtemp()
        command = [sys.executable, "-m", "remerge.forks", place, str(os.getpid())]
        with subprocess.Popen(command, env=self.environment | {"OMP_NUM_THREADS": "1"}) as process:
            self.environment[job.PLACE] = place
            try:
                yield
            finally:
                del self.environment[job.PLACE]
                process.terminate()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return snakemake(
            *self.arguments, *arguments, folder=self.folder, root=self.folder, **self.environment
        )

    def planned(self, *arguments: str) -> set[str]:
        """The rules that a dry run would run."""
        return {*planned(*self.arguments, *arguments, folder=self.folder, root=self.folder)}

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
