"""What a run asks for: an exhibit waits for what it reads, and nothing is made that nobody reads."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import projects
import pytest
import yaml
from projects import ROOT, Project, settings

from remerge import config as configuration
from remerge.batches import batches
from remerge.needs import Needs

ORDER = """

import json
import os

from snakemake.iocontainers import Wildcards

some = Wildcards(fromdict={"task": "cola", "share": "1"})
order = {rule.name: rule.expand_priority(some, [], 1) for rule in workflow.rules}
Path("order.json").write_text(json.dumps(order))
"""
"""Notes the priority of each rule's jobs: of those that are ready, Snakemake begins with the highest."""


def planned(folder: Path, benchmark: str | Path, *targets: str, root: Path = ROOT) -> dict[str, int]:
    """How many jobs of each rule a dry run would run, the rules of methods as one."""
    path = benchmark if isinstance(benchmark, Path) else root / f"config/{benchmark}.yaml"
    how = ["--configfile", path, "--cores", "2", "--scheduler", "greedy"]
    found: Counter[str] = Counter()
    for rule, count in projects.planned(*how, "--", *targets, folder=folder, root=root).items():
        found[rule.partition("_")[0]] += count
    return found


def test_a_table_of_scores_does_not_wait_for_merges(tmp_path: Path) -> None:
    rules = planned(tmp_path, "demo", "results/demo/tables/divmerge_table5.csv")
    assert {*rules} == {"base", "data", "experts", "scores", "tables"}


def test_a_figure_of_divergences_waits_for_references_alone(tmp_path: Path) -> None:
    rules = planned(tmp_path, "demo", "results/demo/figures/divmerge_figure5.svg")
    assert {*rules} == {"base", "data", "experts", "references", "divergences", "figures"}


def test_a_rule_of_one_s_own_that_includes_the_pipeline_exports_every_merge(tmp_path: Path) -> None:
    """The worked example of docs/how-to/lm-eval.md."""
    path, own = ROOT / "config/demo.yaml", ROOT / "docs/how-to/harness.smk"
    how = ["--snakefile", own, "--configfile", path, "--cores", "2", "--scheduler", "greedy"]
    rules = projects.planned(*how, "--", "results/demo/harness.csv", folder=tmp_path)
    merges = sum(len(cases) for cases in configuration.load(path).cases("subsets").values())
    exports = sum(count for rule, count in rules.items() if rule.startswith("exports_"))
    assert rules["judge"] == exports == 10 * merges


def test_a_table_of_weights_waits_for_experts_alone(tmp_path: Path) -> None:
    rules = planned(tmp_path, "drm-t5-base", "results/drm-t5-base/tables/drm_table4.csv")
    assert {*rules} == {"base", "data", "experts", "weights", "tables"}


@pytest.mark.parametrize("benchmark", ["drm-t5-base", "drm-deberta"])
def test_where_nothing_learns_there_are_no_references_and_no_divergences(
    tmp_path: Path, benchmark: str
) -> None:
    path, given = tmp_path / "c.yaml", yaml.safe_load((ROOT / f"config/{benchmark}.yaml").read_text())
    base = yaml.safe_load((ROOT / "config/drm-t5-base.yaml").read_text())
    kept = [variant for variant in base["merge"]["variants"] if "divmerge" not in variant]
    assert len(kept) == len(base["merge"]["variants"]) - 1
    changed = {"include": str(ROOT / f"config/{benchmark}.yaml"), "benchmark": given["benchmark"]}
    path.write_text(yaml.safe_dump(changed | {"merge": {"variants": kept}}))
    rules = planned(tmp_path, path)
    assert not {"references", "divergences"} & {*rules}
    assert rules["report"] == 1 and rules["merge"] >= 8
    assert planned(tmp_path, benchmark)["references"] == len(base["tasks"])


def test_what_is_on_the_hub_can_be_fetched_beforehand(tmp_path: Path) -> None:
    # As README says it: Snakemake fails where `--until` names a rule and one that it needs.
    how = ["--configfile", ROOT / "config/divmerge-generation.yaml", "--cores", "1"]
    rules = projects.planned(*how, "--until", "base", "data", folder=tmp_path, root=ROOT)
    assert rules == {"base": 1, "data": 4}
    experts = [f"results/divmerge-generation/experts/{task}.json" for task in ("imdb", "qasc")]
    rules = projects.planned(*how, "--", *experts, folder=tmp_path, root=ROOT)
    assert rules == {"base": 1, "data": 2, "experts": 2}


def test_an_exhibit_is_one_file(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("src", "workflow", "config"):
        shutil.copytree(ROOT / name, project / name)
    shutil.copy(ROOT / "Snakefile", project)
    exhibits = project / "src/remerge/exhibits"
    text = (exhibits / "general/experts.py").read_text()
    (exhibits / "general/mine.py").write_text(
        text.replace('config.paper not in ("divmerge", "fusionbench")', "True")
    )
    rules = planned(tmp_path, "demo", "results/demo/tables/mine.csv", root=project)
    assert rules["tables"] == 1 and "merge" not in rules
    before = planned(tmp_path, "demo", root=ROOT)
    assert planned(tmp_path, "demo", root=project)["tables"] == before["tables"] + 1


def test_benchmarks_that_are_finished_are_set_side_by_side(tmp_path: Path) -> None:
    for name in ("demo", "demo-t5"):
        (tmp_path / f"results/{name}").mkdir(parents=True)
        (tmp_path / f"results/{name}/report.html").write_text("")
    target = "results/compare/demo-lora+demo-t5.html"
    (tmp_path / "results/demo-lora").mkdir()
    (tmp_path / "results/demo-lora/report.html").write_text("")
    assert planned(tmp_path, "demo", target) == {"compare": 1}


def test_variants_of_one_method_are_made_by_one_job_or_dealt_out(tmp_path: Path) -> None:
    """Scales of opposite signs, whose names differ in a sign that no rule's name can hold."""
    above = {
        "include": str(ROOT / "config/demo.yaml"),
        "benchmark": "signs",
        "merge": {"variants": [{"task_arithmetic": {"scale": scale}} for scale in (0.5, -0.5)]},
    }
    (tmp_path / "signs.yaml").write_text(yaml.safe_dump(above))
    rules = planned(tmp_path, tmp_path / "signs.yaml", "results/signs/report.html")
    assert rules["merge"] == 1
    (tmp_path / "signs.yaml").write_text(yaml.safe_dump(above | {"shards": 5}))
    rules = planned(tmp_path, tmp_path / "signs.yaml", "results/signs/report.html")
    assert rules["merge"] == 5 + 1


def test_the_longest_job_that_is_ready_begins_first(tmp_path: Path) -> None:
    """Else it may be left to run alone, when all others are done; what others wait for comes before any."""
    project, raw = Project(tmp_path), settings()
    raw["merge"]["defaults"]["divmerge"]["epochs"] = 100_000
    project.write(raw)
    with (project.folder / "Snakefile").open("a") as file:
        file.write(ORDER)
    project.planned()
    order = json.loads((project.folder / "order.json").read_text())
    config = configuration.load(project.folder / "seconds.yaml")
    needs = Needs(config, gpu=True)
    for name, batch in batches(config).items():
        assert order[f"merge_{batch.method}"] == needs.batch(batch).minutes, name
    assert order["merge_divmerge"] > order["merge_average"] > order["report"]
    assert order["experts"] == needs.expert("cola").minutes
    waited_for = ["base", "data", "references", "scores"]
    assert min(order[rule] for rule in waited_for) > order["merge_divmerge"]


def test_a_run_in_another_folder_finds_its_profile(tmp_path: Path) -> None:
    """Its path is relative to where Snakemake was started; nothing was said and nothing ran."""
    how = ["--configfile", "config/demo.yaml", "--directory", tmp_path, "--dry-run"]
    done = projects.snakemake(*how, "--workflow-profile", "workflow/profiles/local", folder=ROOT)
    assert done.returncode == 0 and "Job stats" in done.stdout + done.stderr, done.stderr[-2000:]
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.yaml").write_text("cores: 1")
    profile = Path(os.path.relpath(tmp_path / "own", ROOT))
    done = projects.snakemake(*how, "--workflow-profile", profile, folder=ROOT)
    assert done.returncode == 2 and "--directory: give the absolute path of the profile" in done.stderr


def test_what_config_says_replaces_keys_of_the_default_configuration_too(tmp_path: Path) -> None:
    """It was left out without a word, so that the demo ran as it is, and an unknown key was none."""
    how = ["--snakefile", ROOT / "Snakefile", "--cores", "1", "--dry-run"]
    for profile in ([], ["--workflow-profile", "none"]):
        told = [*how, *profile, "--config", "benchmark=other"]
        done = projects.snakemake(*told, "--", "results/other/base.json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        done = projects.snakemake(*how, *profile, "--config", "sed=1", folder=tmp_path)
        assert done.returncode == 2 and "unknown key sed" in done.stderr.splitlines()[-1], done.stderr


def test_results_that_cannot_be_written_are_one_line_and_status_2(tmp_path: Path) -> None:
    """Where the configuration of the run is kept, before any job; and a link to a disk that is not there."""
    project = Project(tmp_path)
    (project.results / "config.yaml").mkdir(parents=True)
    done = project.run("results/seconds/base.json")
    told = "remerge: cannot write results/seconds/config.yaml: Is a directory"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told), done.stderr
    (project.results / "config.yaml").rmdir()
    project.results.rmdir()
    project.results.symlink_to(tmp_path / "gone")
    done = project.run("results/seconds/base.json")
    told = "remerge: results/seconds: no folder, and results are written there: move it, or mend the link"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, told), done.stderr
