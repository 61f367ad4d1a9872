"""The same stage in two processes at once: both end, and the records are those of one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults.small import CONFIG, LEARNED, RUN

STAGES = [["batch", CONFIG, LEARNED], ["scores", CONFIG], ["experts", CONFIG, "cola"]]


def records() -> dict[Path, bytes]:
    """What does not tell time: weights, and the seals of records."""
    found = {path: path.read_bytes() for path in RUN.rglob("*.safetensors")}
    for path in [*RUN.glob("merges/*/*.jsonl"), *RUN.glob("scores/*.json"), *RUN.glob("selection/*.json")]:
        words = path.read_bytes().split()
        found[path] = b" ".join(word for k, word in enumerate(words) if words[k - 1] == b'"seal":')
    return found


@pytest.mark.parametrize("command", STAGES, ids=lambda command: command[0])
def test_two_processes_of_a_stage(copied: Path, command: list[str]) -> None:
    before = records()
    assert all(before.values())
    shutil.rmtree(RUN / "journal")
    line = [sys.executable, "-m", "remerge", *command]
    quiet = os.environ | {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(line, env=quiet, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, said = process.communicate()
        assert process.returncode == 0, said
    assert records() == before
    assert not list(RUN.rglob(".partial~*"))
