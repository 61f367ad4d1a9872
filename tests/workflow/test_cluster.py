"""What a cluster or machine is asked for: each job's memory, minutes and GPUs, as the benchmark has them."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from projects import ROOT, Project, settings, snakemake

from remerge import config as configuration
from remerge.needs import Needs
from remerge.room import room

ASKED = """

import json

from snakemake.iocontainers import Wildcards


def asked_for(rule, attempt):
    found = rule.expand_resources(Wildcards(fromdict={"task": "cola"}), [], attempt)
    return {name: found.get(name, 0) for name in ("gpu", "mem_mb", "runtime")}


limit = workflow.global_resources.get("mem_mb")
Path("limit.json").write_text(json.dumps(limit and limit.value))
remote = [rule for rule in workflow.rules if rule.name not in workflow._localrules]
asked = {rule.name: [asked_for(rule, attempt) for attempt in (1, 3, 10_000)] for rule in remote}
Path("asked.json").write_text(json.dumps(asked))
"""
"""Notes what each rule on a cluster's machines asks for, at first, at the third attempt and at a late one."""


def asked_of(project: Project, *arguments: str) -> tuple[set[str], dict[str, list[dict[str, int]]]]:
    """The rules that a run would run, and what each asks for."""
    with (project.folder / "Snakefile").open("a") as file:
        file.write(ASKED)
    return project.planned(*arguments), json.loads((project.folder / "asked.json").read_text())


def profile_for(scheduler: str, folder: Path) -> Path:
    """A cluster's profile, less what its executor alone understands where that is not installed."""
    profile = yaml.safe_load((ROOT / f"workflow/profiles/{scheduler}/config.yaml").read_text())
    assert profile["executor"] == scheduler and profile["retries"] == 2 and profile["rerun-incomplete"]
    if not find_spec(f"snakemake_executor_plugin_{scheduler.replace('-', '_')}"):
        others = {key for key in profile if key != "executor" and not key.startswith(f"{scheduler}-")}
        profile = {key: profile[key] for key in others}
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))
    return folder


@pytest.mark.parametrize(
    ("scheduler", "device", "gpus"), [("slurm", "auto", 1), ("cluster-generic", "cpu", 0)]
)
def test_a_cluster_is_asked_for_what_each_job_needs(
    tmp_path: Path, scheduler: str, device: str, gpus: int
) -> None:
    """As the benchmark has it, and as much again at each attempt; tables and the page are made at home."""
    project, profile = Project(tmp_path), tmp_path / "profile"
    profile.mkdir()
    # Where its executor is not installed, nothing else says that it is a cluster.
    start = ["--workflow-profile", str(profile_for(scheduler, profile)), "--mode", "remote"]
    rules, asked = asked_of(project, *start, "--config", f"device={device}")
    assert {"all", "tables", "figures", "report"} == rules - {*asked}
    for first, third, last in asked.values():
        assert first["mem_mb"] > 1000 and first["runtime"] > 0
        grown = {name: 3 * first[name] for name in ("mem_mb", "runtime")}
        assert third == {"gpu": first["gpu"]} | grown
        assert last["runtime"] == 24 * 60
    need = Needs(configuration.load(project.folder / "seconds.yaml"), gpus > 0).expert("cola")
    assert asked["experts"][0] == {"gpu": gpus, "mem_mb": need.memory, "runtime": need.minutes}
    assert not asked["data"][0]["gpu"]


@pytest.mark.parametrize("given", [None, 1600])
def test_on_one_machine_jobs_share_its_memory(tmp_path: Path, given: int | None) -> None:
    """A job that wants more than there is runs alone; without a GPU, jobs hold what would be on one."""
    project = Project(tmp_path)
    _, asked = asked_of(project, *(["--resources", f"mem_mb={given}"] if given else []))
    limit = json.loads((project.folder / "limit.json").read_text())
    assert limit == (given or room())
    need = Needs(configuration.load(project.folder / "seconds.yaml"), gpu=False).expert("cola")
    assert need.memory > 1600 and asked["experts"][0]["mem_mb"] == min(need.memory, limit)
    assert asked["experts"][-1]["mem_mb"] == limit


@pytest.mark.parametrize(("given", "told"), [("mem=1GB", True), ("mem_mb=100000", False)])
def test_a_job_that_wants_more_memory_than_there_is_is_told(tmp_path: Path, given: str, told: bool) -> None:
    """Before it is killed for want of it, which says only that its status is 137."""
    project = Project(tmp_path)
    asked = ["--dry-run", "--resources", given]
    done = snakemake(*project.arguments, *asked, folder=tmp_path, root=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    notes = [line for line in done.stderr.splitlines() if line.startswith("remerge: a job may take")]
    assert bool(notes) is told
    for note in notes:
        assert re.match(r"remerge: a job may take [1-9]\.\d GB of memory, and there are 1\.0 GB: ", note)
    assert len(set(notes)) == len(notes)


def test_on_a_cluster_each_size_is_a_job(tmp_path: Path) -> None:
    """Unless the configuration says how many."""
    project = Project(tmp_path)
    shared = {"merge_average_share", "merge_divmerge_share", "select_divmerge_share"}
    assert not shared & project.planned("--jobs", "4")
    planned = project.planned("--mode", "remote")
    assert {name for name in planned if name.endswith("_share")} == shared, planned
    assert not shared & project.planned("--mode", "remote", "--config", "shards=1")


def test_an_export_of_a_variant_with_a_comma_reaches_a_job(tmp_path: Path) -> None:
    """Snakemake gives a job its wildcards as one text, which it divides at commas."""
    project, raw = Project(tmp_path), settings()
    raw["merge"]["variants"] = ["average", {"ties": {"density": 0.4, "scale": 0.8}}]
    project.write(raw)
    folder = "results/seconds/exports/ties@density=0.4,scale=0.8/cola+mnli"
    assert "exports_2" in project.planned("--", folder)
    how = ["--mode", "remote", "--config", "shards=1"]
    planned = project.planned(*how, "--target-jobs", "exports_2:subset=cola+mnli")
    assert planned == project.planned("--", folder)


def test_the_job_that_collects_shares_computes_in_what_they_computed_in(tmp_path: Path) -> None:
    """Its keys name the precision, which on a machine without a GPU is another: it would find nothing."""
    _, asked = asked_of(Project(tmp_path), "--config", "shards=2")
    collecting = [name.removesuffix("_share") for name in asked if name.endswith("_share")]
    assert collecting and all(asked[name][0]["gpu"] == 1 for name in collecting)
