"""Killed at moments drawn at random, a run goes on by itself and ends in the same records.

    make test-faults

Not among the tests, for it takes minutes.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from faults.small import finish
from projects import Project, scores, settings

from remerge.files import PARTIAL

KILLS = 9
SECONDS = (5.0, 16.0)
"""Between the start of a run and its kill."""


def kill(running: "subprocess.Popen[bytes]", whom: str, draw: random.Random) -> None:
    """All that a run has started, Snakemake alone, or one of its jobs."""
    if whom == "all":
        os.killpg(running.pid, signal.SIGKILL)
    elif whom == "snakemake":
        os.kill(running.pid, signal.SIGKILL)
    else:
        jobs = [
            p
            for p in psutil.Process(running.pid).children(recursive=True)
            if {"remerge.job", "remerge.forks"} & {*p.cmdline()}
        ]
        if jobs:
            draw.choice(jobs).kill()


def test_killed_at_random_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    # A benchmark of no paper has a dozen tables and figures: jobs of every kind, and fewer of the same.
    raw = {key: value for key, value in settings().items() if key != "paper"}
    (tmp_path / "undisturbed").mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path / "undisturbed")
        before = scores(finish(raw).folder.absolute())
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    project.write(raw)
    draw, killed = random.Random(0), {"all": 0, "snakemake": 0, "job": 0}
    for k in range(KILLS):
        whom = list(killed)[k % len(killed)]
        log = (tmp_path / f"{k}.log").open("wb")
        running = subprocess.Popen(
            project.command("--rerun-incomplete"),
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        time.sleep(draw.uniform(*SECONDS))
        if running.poll() is not None:
            break
        kill(running, whom, draw)
        killed[whom] += 1
        running.wait()
        log.close()
        said = (tmp_path / f"{k}.log").read_text(errors="replace")
        assert "Traceback" not in said and "LockException" not in said, said[-3000:]
    done = project.run("--rerun-incomplete")
    assert done.returncode == 0, done.stderr[-3000:]
    record_property("killed", str(killed))
    assert min(killed.values()) >= 1
    after = project.scores()
    assert after == {name: before[name] for name in after}
    assert {name for name in before if name.startswith(("merges/", "scores/"))} <= after.keys()
    assert not list(project.results.rglob(f"{PARTIAL}*"))
    assert not (project.results / "training").exists() or not list((project.results / "training").iterdir())
