"""Real models and real tasks: `make test-real DATA=folder`, of `<task>/<split>.jsonl.gz` of GLUE.

The models come in PyPI packages, out of which models/packaged.py saves them.
"""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from remerge.__main__ import main
from remerge.config import load

MODELS = Path(__file__).parents[2] / "models"

ANSWERS = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["different", "equal"],
    "rte": ["implied", "independent"],
}
"""Each task's answers, in the order of the labels."""


@pytest.fixture(scope="session")
def data():
    folder = Path(os.environ["REAL_DATA"]).resolve()
    assert folder.is_dir(), f"{folder}: give make test-real DATA=… a folder of GLUE tasks"
    return folder


@pytest.fixture(scope="session")
def packaged():
    """The folder of a model that came in a package."""

    def found(name):
        assert (MODELS / name).is_dir(), f"{MODELS / name}: run make test-real"
        return MODELS / name

    return found


@pytest.fixture(scope="session")
def campaign(data, tmp_path_factory):
    """A benchmark of existing data and a real base, from fine-tuning to records."""

    def run(base, tasks, prompts, sizes, variants, **sections):
        folder = tmp_path_factory.mktemp("real")
        told = {
            task: {
                "source": str(data / task),
                "splits": {"train": "train", "validation": "train", "test": "validation"},
                "sizes": sizes,
                "prompt": prompts(task),
                "answers": ANSWERS[task],
            }
            for task in tasks
        }
        raw = {"benchmark": "real", "base": base, "tasks": told, "merge": {"variants": variants}, **sections}
        (folder / "real.yaml").write_text(yaml.safe_dump(raw))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            config = load(Path("real.yaml"))

            def stage(*words):
                assert main([words[0], "real.yaml", *words[1:]]) == 0

            stage("base")
            for task in tasks:
                stage("data", task)
                stage("experts", task)
                if "fisher" in variants:
                    stage("statistics", task, "fisher")
                    stage("statistics", task, "grams")
            stage("scores")
            for variant in config.merge.variants:
                for size in range(2, len(tasks) + 1):
                    if variant.method != "slerp" or size == 2:
                        stage("merges", variant.name, str(size))
            results, exported = folder / "results/real", []
            for file in sorted(results.glob("merges/*/*.jsonl")):
                for record in map(json.loads, file.read_text().splitlines()):
                    subset = "+".join(record["tasks"])
                    stage("exports", file.parent.name, subset)
                    exported.append((results / "exports" / file.parent.name / subset, record))
        return results, exported

    return run


@pytest.fixture(scope="session")
def rows(data):
    """The test examples of a campaign, read from its own parquet."""

    def read(results, task):
        return pq.read_table(results / f"data/{task}/test.parquet").to_pylist()

    return read
