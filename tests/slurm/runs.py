"""The workflow of seconds on a real Slurm: the records of a local run, whatever happens on the way.

    make test-cluster

Not among the tests, for it installs Slurm and takes minutes.
"""

import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from projects import Project, settings
from slurm.cluster import Cluster, lacking

# The profile asks for the first status after 20 seconds, which is as long as these jobs.
QUICK = {"slurm": ["--slurm-init-seconds-before-status-checks", "2"], "cluster-generic": []}

PATIENCE = 900
"""Seconds, for a machine that does other things too."""

# Longer than the minute it is given, and than Slurm takes to see it.
SLOW_AT_FIRST = """

import time
from pathlib import Path

if not Path("begun").exists():
    Path("begun").touch()
    time.sleep(300)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _started(tmp_path_factory.mktemp("slurm"), accounting=False)


@pytest.fixture(scope="module")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    yield from _started(tmp_path_factory.mktemp("accounted"), accounting=True)


def _started(folder: Path, accounting: bool) -> Iterator[Cluster]:
    if why := lacking():
        pytest.skip(why)
    made = Cluster(folder, accounting)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The records of a local run."""
    local = Project(tmp_path_factory.mktemp("local"))
    done = local.run()
    assert done.returncode == 0, done.stderr[-3000:]
    return local.scores()


class Submitted:
    """A run of a copy of the project on a cluster."""

    def __init__(
        self,
        folder: Path,
        cluster: Cluster,
        *arguments: str,
        profile: str = "slurm",
        shards: int | None = 1,
        slow_at_first: str | None = None,
    ) -> None:
        self.cluster, self.project = cluster, Project(folder)
        if slow_at_first:
            stage = self.project.folder / f"src/remerge/stages/{slow_at_first}.py"
            stage.write_text(stage.read_text() + SLOW_AT_FIRST)
        # Models run on the CPU; a test that wants one of the two pretended GPUs asks for it.
        self.project.write(settings() | {"device": "cpu"} | ({"shards": shards} if shards else {}))
        self.log = folder / "said.log"
        self.command = self.project.command(*arguments, "--workflow-profile", f"workflow/profiles/{profile}")
        self.command += ["--latency-wait", "5", "--seconds-between-status-checks", "2", *QUICK[profile]]
        at = self.command.index("--cores")
        del self.command[at : at + 2]
        self.begin()

    def begin(self) -> None:
        """Start Snakemake, again after it was killed."""
        self.running = subprocess.Popen(
            self.command,
            cwd=self.project.folder,
            env=self.project.environment
            | self.cluster.environment
            | {"PYTHONPATH": str(self.project.folder / "src")},
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("ab"),
        )

    def queued(self) -> list[list[str]]:
        """Of each job in the queue: number, memory, comment and name (in one the rule), state, time limit."""
        lines = self.cluster.ask("squeue", "-h", "-o", "%i|%m|%k %j|%T|%l").splitlines()
        return [line.split("|") for line in lines]

    def job(self, rule: str) -> list[str]:
        """The first running job of a rule."""
        for _ in range(PATIENCE):
            found = [job for job in self.queued() if rule in job[2] and job[3] == "RUNNING"]
            if found:
                return found[0]
            assert self.running.poll() is None, self.said()
            time.sleep(1)
        raise TimeoutError(rule)

    def asked(self, rule: str, column: int) -> list[str]:
        """What the jobs of a rule ask for, one after the other, until the run ends."""
        found = [self.job(rule)[column]]
        while self.running.poll() is None:
            found += [job[column] for job in self.queued() if rule in job[2] and job[column] != found[-1]]
            time.sleep(0.5)
        return found

    def submissions(self, rule: str) -> int:
        """How often jobs of a rule were submitted."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum("has been submitted" in line and f"/rule_{rule}/" in line for line in lines)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def end(self) -> dict[str, Any]:
        """The records, when the run has ended well."""
        try:
            assert self.running.wait(timeout=PATIENCE) == 0, self.said()
        except subprocess.TimeoutExpired:
            # Its jobs would otherwise run beside those of the next test.
            self.running.send_signal(signal.SIGINT)
            self.running.wait()
            raise AssertionError(f"not ended after {PATIENCE} s: {self.said()}") from None
        assert (self.project.results / "report.html").exists()
        return self.project.scores()


@pytest.mark.parametrize("profile", QUICK)
def test_a_run_has_the_records_of_a_local_one(
    tmp_path: Path, cluster: Cluster, expected: dict[str, Any], profile: str
) -> None:
    run = Submitted(tmp_path, cluster, "--set-resources", "experts:gpu=1", profile=profile, shards=None)
    job = run.job("experts")
    assert int(re.sub(r"\D", "", job[1])) > 1000, job
    assert "TresPerJob=gres:gpu:1" in cluster.ask("scontrol", "show", "job", job[0])
    assert run.end() == expected
    # One for pairs and one for all three.
    assert len(list((run.project.results / "logs/merges").glob("average_*.log"))) == 2


@pytest.mark.parametrize("kind", ["cluster", "accounted"])
def test_a_job_that_is_cancelled_is_made_again(
    tmp_path: Path, request: pytest.FixtureRequest, expected: dict[str, Any], kind: str
) -> None:
    cluster: Cluster = request.getfixturevalue(kind)
    run = Submitted(tmp_path, cluster)
    cluster.ask("scancel", run.job("scores")[0])
    assert run.end() == expected
    assert run.submissions("scores") == 2
    if kind == "accounted":
        states = cluster.ask("sacct", "-X", "-n", "-o", "State%20").splitlines()
        assert Counter(state.split()[0] for state in states) == {"CANCELLED": 1, "COMPLETED": len(states) - 1}


def test_a_job_over_its_memory_gets_more(tmp_path: Path, cluster: Cluster, expected: dict[str, Any]) -> None:
    run = Submitted(tmp_path, cluster, "--set-resources", "scores:mem_mb=attempt*350")
    asked = run.asked("scores", column=1)
    assert run.end() == expected
    assert asked == [f"{350 * attempt}M" for attempt in range(1, run.submissions("scores") + 1)]
    assert len(asked) > 1


def test_a_job_over_its_time_gets_more(tmp_path: Path, cluster: Cluster, expected: dict[str, Any]) -> None:
    run = Submitted(tmp_path, cluster, "--set-resources", "scores:runtime=attempt", slow_at_first="scores")
    asked = run.asked("scores", column=4)
    assert run.end() == expected
    assert asked == ["1:00", "2:00"]


def test_a_job_that_is_preempted_is_queued_again(
    tmp_path: Path, cluster: Cluster, expected: dict[str, Any]
) -> None:
    run = Submitted(tmp_path, cluster)
    run.job("scores")
    cluster.ask("sbatch", "-p", "urgent", "--exclusive", "--output", "/dev/null", "--wrap", "sleep 1")
    assert run.end() == expected
    assert run.submissions("scores") == 1


def test_a_controller_that_is_killed_and_started_again_goes_on(
    tmp_path: Path, cluster: Cluster, expected: dict[str, Any]
) -> None:
    run = Submitted(tmp_path, cluster)
    run.job("experts")
    time.sleep(6)  # A controller saves what it knows within 5 seconds; jobs that it had not saved are lost.
    cluster.kill_controller()
    time.sleep(3)
    cluster.start_controller()
    assert run.end() == expected


def test_a_snakemake_that_is_killed_and_started_again_goes_on(
    tmp_path: Path, cluster: Cluster, expected: dict[str, Any]
) -> None:
    run = Submitted(tmp_path, cluster)
    run.job("experts")
    run.running.kill()
    run.running.wait()
    run.begin()
    assert run.end() == expected
