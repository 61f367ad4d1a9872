"""A run on the screen: stages as they end, merges done, the time left; errors whole."""

import io
import os

import pytest
from projects import Project, snakemake

from remerge import config as configuration
from remerge.screen import Screen

COUNTS = {"base": 1, "experts": 2, "merge_average": 1, "merge_divmerge": 1, "report": 1, "all": 1, "total": 6}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def config(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    return configuration.load(project.folder / "seconds.yaml")


def test_what_is_done_and_how_long_the_rest_takes(config, project):
    clock, stream = Clock(), io.StringIO()
    screen = Screen(config, stream, clock)
    screen.start(COUNTS)
    assert screen.total == 8  # two variants, three pairs and a triple each
    assert stream.getvalue() == "seconds: 6 steps, 8 merges\n"
    screen.begin(1, "base")
    clock.now = 4.0
    screen.end(1)
    assert screen.left() is None  # nobody knows yet what a merge takes
    for job in (2, 3):
        screen.begin(job, "experts")
    clock.now = 24.0
    for job in (2, 3):
        screen.end(job)
    screen.begin(4, "merge_average")
    journal = project.results / "journal/merges/average/2.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("{}\n")
    journal.with_name("2~3.jsonl").write_text("{}\n")
    clock.now = 34.0
    # Two merges in ten seconds, six more, and the report; two jobs at once.
    assert screen.left() == pytest.approx((6 * 5 + 3) / 2)
    assert screen.line() == "    0:34  merges, 3 of 6 steps, 2 of 8 merges, about 1 min left"
    for variant in ("average", "divmerge@level=task"):
        for group in ("2", "3"):
            place = project.results / f"merges/{variant}/{group}.jsonl"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("{}\n")
    screen.end(4)
    screen.begin(5, "merge_divmerge")
    screen.end(5)
    screen.begin(6, "report")
    clock.now = 65.0
    screen.end(6)
    assert stream.getvalue().splitlines() == [
        "seconds: 6 steps, 8 merges",
        "    0:04  base (1)",
        "    0:24  experts (2)",
        "    0:34  merges (8)",
        "    1:05  report (1)",
        "    1:05  results are in results/seconds/",
    ]


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        ({"data": 2, "total": 2}, "2 steps"),
        ({"merge_divmerge": 1, "report": 1, "total": 2}, "2 steps, 4 merges"),
    ],
)
def test_merges_that_are_not_planned_are_not_announced(config, planned, said):
    screen = Screen(config, stream := io.StringIO(), Clock())
    screen.start(planned)
    assert stream.getvalue() == f"seconds: {said}\n"
    assert ("merges" in screen.line()) is ("merges" in said)


def run(project, *more, **environment):
    how = ["--configfile", "seconds.yaml", "--workflow-profile", "workflow/profiles/local"]
    return snakemake(*how, *more, folder=project.folder, root=project.folder, TERM="dumb", **environment)


@pytest.mark.parametrize("target", ["results/seconds/data/cola.json", "tables"])
def test_a_target_that_is_taken_for_a_configuration(project, target):
    done = run(project, "-n", "--configfile", "seconds.yaml", target)
    told = f"remerge: --configfile: {target} is not a configuration: write -- before a target"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told)


@pytest.mark.parametrize("option", ["--cores=0", "--jobs=0", "--cores=-1"])
def test_a_run_that_could_begin_nothing(project, option):
    """Snakemake would wait for ever."""
    done = run(project, option)
    told = "remerge: --cores, --jobs: no job could begin: give 1 or more, or --cores all"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told)


def test_a_profile_that_is_not_there_is_not_passed_over(project):
    """What was meant for a cluster would run on the machine that submits."""
    done = run(project, "--workflow-profile", "workflow/profiles/slrum", "--cores", "1", "-n")
    told = "remerge: --workflow-profile: workflow/profiles/slrum is missing: name one of "
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(told)


def test_snakemakes_own_folders_cannot_be_written(project):
    """Though no results are: a home that is read-only or nobody's, a folder of somebody else."""
    file = project.folder / "file"
    file.write_text("")
    done = run(project, XDG_CACHE_HOME=str(file))
    told = f"remerge: cannot write into {file}/snakemake: Not a directory"
    told += ": set XDG_CACHE_HOME to a folder of yours"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told)
    file.rename(project.folder / ".snakemake")
    done = run(project)
    told = "remerge: cannot write into .snakemake: Not a directory"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told)


def test_a_run_shows_its_stages_and_an_error_whole(project):
    done = run(project, "results/seconds/data/cola.json", "results/seconds/data/mnli.json")
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[1] == "seconds: 2 steps"
    assert [line.split(maxsplit=1)[1] for line in lines[2:]] == [
        "data (2)",
        "results are in results/seconds/",
    ]
    again = run(project, "results/seconds/data/cola.json")
    assert "Nothing to be done" in again.stderr
    planned = run(project, "--dry-run", "results/seconds/data/sst2.json")
    assert "Job stats:" in planned.stdout + planned.stderr
    broken = project.folder / "src/remerge/tasks.py"
    broken.write_text(broken.read_text() + "\nraise RuntimeError('broken here')\n")
    failed = run(project, "results/seconds/data/sst2.json")
    assert failed.returncode == 1
    assert "remerge: the same command again continues from here" in failed.stderr
    assert "RuntimeError: broken here" in failed.stderr
    assert "Error in rule data:" in failed.stderr and "logs/data/sst2.log" in failed.stderr
    assert not os.path.exists(project.results / "data/sst2.json")


ONCE = """
from pathlib import Path
if not Path("tried").exists():
    Path("tried").touch()
    raise RuntimeError("broken once")
"""


def test_what_follows_a_failure_is_shown_as_what_was_before(project):
    """The screen stood still, with the job that had failed among the running ones to the end."""
    broken = project.folder / "src/remerge/tasks.py"
    broken.write_text(broken.read_text() + ONCE)
    done = run(project, "--retries", "1", "--cores", "1", "results/seconds/data/sst2.json")
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and "RuntimeError: broken once" in lines, done.stderr
    assert any(line.startswith("Trying to restart job") for line in lines), done.stderr
    assert [line.split(maxsplit=1)[1] for line in lines[-3:-1]] == [
        "data (1)",
        "results are in results/seconds/",
    ]


def test_a_job_that_failed_no_longer_runs(config):
    screen = Screen(config, io.StringIO(), Clock())
    screen.start({"data": 1, "experts": 2})
    screen.begin(1, "data")
    screen.begin(2, "experts")
    screen.fail(2)
    assert screen.line().split(maxsplit=1)[1].startswith("data, 0 of 3 steps")
