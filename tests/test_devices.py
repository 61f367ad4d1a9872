"""Jobs on one machine see one GPU each, and share one where they fit; the GPUs are pretended."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from projects import settings

from remerge import devices
from remerge.__main__ import main

JOB = "import sys, os; from remerge import devices; devices.take(int(sys.argv[1]))\n"
JOB += "print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); sys.stdin.read()"
SMI = """#!/bin/sh
echo "0, GPU-aa, 16000"
echo "1, GPU-bb, 24000"
"""


class Jobs:
    """Processes that take a device and hold it."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {"TMPDIR": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
        self.environment.pop("CUDA_VISIBLE_DEVICES", None)
        self.folder, self.running = folder, list[subprocess.Popen[str]]()

    def pretend(self) -> None:
        (self.folder / "nvidia-smi").write_text(SMI)
        (self.folder / "nvidia-smi").chmod(0o755)

    def start(self, memory: int, **environment: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", JOB, str(memory)]
        env = self.environment | environment
        job = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.running.append(job)
        return job

    def sees(self, memory: int, **environment: str) -> str:
        return said(self.start(memory, **environment))


def said(job: "subprocess.Popen[str]") -> str:
    assert job.stdout is not None
    return job.stdout.readline().strip()


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    for job in made.running:
        job.kill()
        job.communicate()


def test_each_job_sees_one_and_those_that_fit_share(jobs: Jobs) -> None:
    jobs.pretend()
    assert [jobs.sees(10_000) for _ in range(2)] == ["GPU-bb", "GPU-aa"]
    assert jobs.sees(10_000) == "GPU-bb"  # which has 14,000 left
    waiting = jobs.start(10_000)
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "remerge: waiting for 10000 MB of a GPU\n"
    assert jobs.sees(5_000) == "GPU-aa"
    jobs.running[1].kill()  # it held the other; its memory is free however it ended
    assert said(waiting) == "GPU-aa"


def test_a_job_larger_than_any_has_one_to_itself(jobs: Jobs) -> None:
    jobs.pretend()
    assert [jobs.sees(40_000) for _ in range(2)] == ["GPU-bb", "GPU-aa"]
    waiting = jobs.start(100)
    assert waiting.stderr is not None and "waiting" in waiting.stderr.readline()


def test_only_what_is_visible_is_given_out(jobs: Jobs) -> None:
    jobs.pretend()
    assert jobs.sees(100, CUDA_VISIBLE_DEVICES="0") == "GPU-aa"
    assert jobs.sees(100, CUDA_VISIBLE_DEVICES="GPU-aa") == "GPU-aa"
    assert jobs.sees(100, CUDA_VISIBLE_DEVICES="") == ""


def test_devices_of_unknown_size_are_not_shared(jobs: Jobs) -> None:
    """Parts of a GPU, or GPUs of another maker."""
    assert {jobs.sees(10, CUDA_VISIBLE_DEVICES="MIG-1,MIG-2") for _ in range(2)} == {"MIG-1", "MIG-2"}
    waiting = jobs.start(10, CUDA_VISIBLE_DEVICES="MIG-1,MIG-2")
    assert waiting.stderr is not None and "waiting" in waiting.stderr.readline()


def test_a_job_that_needs_none_and_a_machine_without_are_left_alone(jobs: Jobs) -> None:
    assert jobs.sees(0, CUDA_VISIBLE_DEVICES="0,1") == "0,1"
    if not Path("/dev/nvidia0").exists():
        assert jobs.sees(100) == "None"


def test_a_folder_that_somebody_else_made_is_refused(jobs: Jobs) -> None:
    jobs.pretend()
    (jobs.folder / "elsewhere").mkdir()
    (jobs.folder / f"remerge-gpus-{os.getuid()}").symlink_to("elsewhere")
    job = jobs.start(1_000)
    _, said_of_it = job.communicate()
    assert job.returncode and "is not a folder of this user: remove it, or set TMPDIR" in said_of_it
    assert not [*(jobs.folder / "elsewhere").iterdir()]


@pytest.mark.parametrize(
    ("device", "before", "after"),
    [
        ("cuda:1", None, "1"),
        ("cuda:1", "GPU-aa,GPU-bb", "GPU-bb"),
        ("cuda:2", "0,1", ""),
        ("cuda", "0,1", "0,1"),
        ("auto", None, None),
    ],
)
def test_a_gpu_that_is_numbered_is_the_only_one_that_is_seen(
    monkeypatch: pytest.MonkeyPatch, device: str, before: str | None, after: str | None
) -> None:
    """Transformers would train on the first, where no batch is."""
    monkeypatch.setenv(devices.VISIBLE, before or "")
    if before is None:
        monkeypatch.delenv(devices.VISIBLE)
    monkeypatch.setenv(devices.ORDER, "")
    monkeypatch.delenv(devices.ORDER)
    assert devices.only(device) == device.partition(":")[0]
    assert os.environ.get(devices.VISIBLE) == after
    # Else CUDA would number the fastest GPU 0, and `take` another one.
    assert os.environ[devices.ORDER] == "PCI_BUS_ID"


def test_a_stage_computes_on_the_gpu_that_is_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(devices.VISIBLE, "5,6,7")
    found = []
    monkeypatch.setattr("remerge.stages.scores.run", lambda config: found.append(config.device))
    Path("c.yaml").write_text(yaml.safe_dump(settings() | {"device": "cuda:2"}))
    assert main(["scores", "c.yaml"]) == 0
    assert found == ["cuda"] and os.environ[devices.VISIBLE] == "7"
