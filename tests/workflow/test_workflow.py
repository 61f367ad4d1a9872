"""The Snakefile on a world of seconds: run, rerun, kill, a new method, a new task, wrong input.

A copy of the project is run, so that its files may be edited.
"""

import ast
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from counting import passes
from projects import Project, asked, settings

from remerge import config as configuration
from remerge.batches import batches
from remerge.files import PARTIAL
from remerge.records import Cost
from remerge.work import Jobs

ROOT = Path(__file__).parent.parent.parent
NOTEBOOK = ROOT / "docs/notebooks/tour.ipynb"
MINE = '''"""Half of everything."""

from remerge.deltas import Deltas, Merged
from remerge.methods import Scale, method


@method(label="Mine", citation="none")
def mine(deltas: Deltas, *, share: Scale = 0.5) -> Merged:
    """theta_0 + share · sum_t tau_t."""
    return deltas.tensorwise(lambda name: share * deltas[name].sum(dim=0))
'''


MERGES = [
    f"results/seconds/merges/{variant}/{size}.jsonl"
    for variant in ("average", "divmerge@level=task")
    for size in (2, 3)
]


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"))
    with made.warm():
        done = made.run()
        assert done.returncode == 0, done.stderr[-3000:]
        yield made


def test_a_full_run_makes_every_record_and_the_report(project):
    assert (project.results / "report.html").stat().st_size > 10_000
    tables = {path.name for path in (project.results / "tables").iterdir()}
    for name in ("divmerge_table2", "divmerge_table3", "divmerge_table5", "divmerge_table6"):
        assert {f"{name}.csv", f"{name}.md", f"{name}.tex"} <= tables
    for ending in ("pdf", "svg", "png"):
        for number in (2, 3, 7, 8):
            assert (project.results / f"figures/divmerge_figure{number}.{ending}").exists()
    for variant in ("average", "divmerge@level=task"):
        pairs = project.scores()[f"merges/{variant}/2.jsonl"]
        assert [line["tasks"] for line in pairs] == [["cola", "mnli"], ["cola", "sst2"], ["mnli", "sst2"]]
        for line in pairs:
            for t in line["tasks"]:
                own = json.loads((project.results / f"scores/{t}.json").read_text())["scores"][t]["value"]
                assert line["normalised"][t] == pytest.approx(line["scores"][t]["value"] / own)
            assert line["anp"] == pytest.approx(100 * sum(line["normalised"].values()) / 2)
    learned = project.scores()["merges/divmerge@level=task/3.jsonl"][0]
    assert set(learned["coefficients"]) == {"cola", "mnli", "sst2"}
    assert len(learned["trace"]) == 6
    assert learned["params"]["learning_rate"] == 0.02
    for pair in project.scores()["merges/divmerge@level=task/2.jsonl"]:
        course = pair["course"]
        assert course["scored"] == [0, 3, 6] and course["anp"][-1] == pytest.approx(pair["anp"])


def test_every_job_makes_the_forward_passes_that_are_counted(project):
    config = configuration.load(project.results / "config.yaml")
    jobs = Jobs(config)
    works = {f"experts/{model}": jobs.expert(model) for model in config.models[1:]}
    works |= {f"batch/{name}": jobs.batch(batch) for name, batch in batches(config).items()}
    works |= {name: jobs.stage(name)[0] for name in ("base", "scores", "divergences")}
    for job, work in works.items():
        assert passes(work) == Cost.read(project.results, job=job).passes, job
    # How far an expert decodes is its own.
    for task, work in zip(config.tasks, jobs.stage("references"), strict=True):
        assert 1 < Cost.read(project.results, job=f"references/{task}").passes <= passes(work) + 8, task
    records = sorted(path.relative_to(project.results) for path in project.results.glob("costs/**/*.json"))
    assert len(records) == sum(map(len, jobs.rows().values()))


def test_a_second_run_does_nothing(project):
    done = project.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_stage_runs_by_hand_with_the_rule_s_line(project):
    before = (project.results / "merges/average/2.jsonl").read_bytes()
    for stage in (["batch", "average"], ["merges", "average", "2"]):
        line = [sys.executable, "-m", "remerge", stage[0], "results/seconds/config.yaml", *stage[1:]]
        done = subprocess.run(line, cwd=project.folder, env=project.environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert (project.results / "merges/average/2.jsonl").read_bytes() == before


def test_every_cell_of_the_notebook_runs_and_the_last_lines_are_values(project, monkeypatch):
    """In their order and in one namespace."""
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setenv("RESULTS", str(project.results))
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    scope: dict = {}
    shown = []
    for cell in cells:
        body = ast.parse("".join(cell["source"])).body
        last = body.pop()
        exec(compile(ast.Module(body, []), NOTEBOOK.name, "exec"), scope)
        assert isinstance(last, ast.Expr)
        shown.append(eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), scope))
    assert all(value is not None for value in shown)
    assert shown[-2] < 1e-6  # what is averaged in memory is the run's own average
    assert len(scope["outcomes"]) == len(scope["bench"].examples(scope["task"]))


def test_shards_make_the_same_records(project):
    """On a cluster; the choice of a variant's parameters is then dealt out before its merges."""
    made = [project.results / name for name in ("merges", "selection", "journal/merges", "journal/selection")]
    before, journals = project.scores(), [names(folder) for folder in made[2:]]
    selected = next(made[1].glob("*.json")).read_bytes()
    for folder in made:
        shutil.rmtree(folder)
    sharded = ("--config", "shards=2")
    done = project.run(*sharded)
    assert done.returncode == 0, done.stderr[-2000:]
    assert project.scores() == before
    assert next(made[1].glob("*.json")).read_bytes() == selected
    # The journals of all shares have become one.
    assert [names(folder) for folder in made[2:]] == journals
    assert not project.planned(*sharded)
    line = [sys.executable, "-m", "remerge", "verify", "results/seconds"]
    checked = subprocess.run(line, cwd=project.folder, env=project.environment, capture_output=True)
    assert checked.returncode == 0, checked.stdout
    file = project.folder / "src/remerge/methods/linear/average.py"
    text = file.read_text()
    try:
        file.write_text(text + "\n# edited\n")
        rules = {rule for rule in project.planned(*sharded) if rule.startswith(("merge", "select"))}
        assert rules == {"merge_average", "merge_average_share"}
    finally:
        file.write_text(text)
        os.utime(file, (0, 0))
    # One process makes nothing again of what several made.
    kept = (made[2] / "average/2.jsonl").read_bytes()
    done = project.run("--", *MERGES)
    assert done.returncode == 0, done.stderr[-2000:]
    assert project.scores() == before
    assert (made[2] / "average/2.jsonl").read_bytes() == kept


def test_a_merge_is_exported_on_demand(project):
    folders = [f"results/seconds/exports/{v}/cola+mnli" for v in ("average", "divmerge@level=task")]
    done = project.run("--", *folders)
    assert done.returncode == 0, done.stderr[-2000:]
    for folder in folders:
        assert (project.folder / folder / "model.safetensors").exists()
        assert (project.folder / folder / "mergekit_config.yml").exists()
        card = (project.folder / folder / "README.md").read_text()
        line = project.scores()[f"merges/{Path(folder).parent.name}/2.jsonl"][0]
        assert f"ANP (100 times the mean of the last column): {line['anp']:.2f}." in card
        for task, coefficient in line["coefficients"].items():
            assert f"{coefficient:.4f}" in card, task


def test_an_export_of_what_is_not_there_is_one_line_and_status_2(project):
    """Through Snakemake; which words say what is wrong is tested with the stage."""
    done = project.run("--", "results/seconds/exports/tiez/cola+mnli")
    assert done.returncode == 2
    assert "unknown variant 'tiez', " in done.stderr
    assert "Traceback" not in done.stderr


def test_editing_one_method_reruns_that_method_alone(project):
    file = project.folder / "src/remerge/methods/linear/average.py"
    text = file.read_text()
    try:
        file.write_text(text + "\n# edited\n")
        rules = project.planned()
        assert {rule for rule in rules if rule.startswith(("merge", "selection"))} == {"merge_average"}
        assert not rules & {"base", "data", "experts", "references", "scores"}
        os.utime(file, (0, 0))  # as of an edit during the job, or of an older file that was put there
        assert project.planned() == rules
    finally:
        file.write_text(text)
        os.utime(file, (0, 0))


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("src/remerge/plans/subsets.py", {"merge_average", "merge_divmerge", "tables", "figures", "report"}),
        ("src/remerge/report/page.html", {"report"}),
    ],
)
def test_edited_code_reruns_what_it_makes(project, file, rules):
    path = project.folder / file
    text, before = path.read_text(), path.stat()
    try:
        path.write_text(text + "\n")
        assert project.planned() - {"all"} == rules
    finally:
        path.write_text(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not project.planned()


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("data/cola/test.parquet.json", "data"),
        ("data/cola/train.parquet", "data"),
        ("references/cola.safetensors", "references"),
        ("references/cola.safetensors.json", "references"),
        ("references/cola.json", "references"),
        ("tables/divmerge_table3.csv", "tables"),
        ("figures/divmerge_figure2.png", "figures"),
    ],
)
def test_any_file_that_is_deleted_is_made_again(project, file, rule):
    path = project.results / file
    away = path.rename(path.with_name("away"))
    try:
        assert rule in project.planned()
    finally:
        away.rename(path)
    assert not project.planned()


def test_stand_ins_are_made_for_a_variant_that_asks_for_them_later(project):
    raw = settings()
    raw["merge"]["variants"].append({"divmerge": {"level": "task", "replaced": 0.5}})
    project.write(raw)
    try:
        assert {"references", "merge_divmerge_2"} <= project.planned()
    finally:
        project.write(settings())


def test_other_settings_without_snakemake_s_own_record_are_one_line_and_status_2(project):
    kept = project.folder / ".snakemake/metadata"
    away, raw = kept.rename(kept.with_name("away")), settings()
    raw["finetune"]["learning_rate"] = 0.03
    try:
        project.planned()  # the same settings are no trouble
        project.write(raw)
        done = project.run()
        assert done.returncode == 2 and "run once with --forceall" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        project.write(settings())
        shutil.rmtree(kept, ignore_errors=True)
        away.rename(kept)


@pytest.mark.parametrize(("file", "named"), [("src/remerge/methods/mine.py", []), ("mine.py", ["mine.py"])])
def test_a_method_is_one_file_and_one_line(project, file, named):
    """Among those of the project, or beside the configuration that names it."""
    (project.folder / file).write_text(MINE)
    raw = settings() | {"methods": named}
    raw["merge"]["variants"].append({"mine": {"share": 0.25}})
    project.write(raw)
    try:
        target = "results/seconds/merges/mine@share=0.25/3.jsonl"
        assert project.planned(target) == {"merge_mine"}
        done = project.run(target)
        assert done.returncode == 0, done.stderr[-2000:]
        line = project.scores()["merges/mine@share=0.25/3.jsonl"][0]
        assert line["params"] == {"share": 0.25}
        assert line["coefficients"] == {}
        assert not project.planned(target)
        (project.folder / file).write_text(MINE + "\n# edited\n")
        assert project.planned(target) == {"merge_mine"}
    finally:
        (project.folder / file).unlink()
        shutil.rmtree(project.results / "merges/mine@share=0.25", ignore_errors=True)
        project.write(settings())


def test_mergekit_is_told_where_models_are_not_their_ids(tmp_path, monkeypatch):
    """A relative path of two parts, as a local source has, would be an id on the hub."""
    monkeypatch.chdir(tmp_path)
    for name in ("base", "cola"):
        Path(f"{name}.json").write_text(json.dumps({"path": f"models/{name}"}))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    params = SimpleNamespace(density=0.2, scale=1.0)
    given = SimpleNamespace(input=["base.json", "cola.json"], output=["out"], log=["log"], params=params)
    runpy.run_path(str(ROOT / "docs/own-rule/mergekit_ties.py"), {"snakemake": given})
    recipe = yaml.safe_load(Path("out/mergekit.yml").read_text())
    assert recipe["base_model"] == str(tmp_path / "models/base")
    assert recipe["models"][0]["model"] == str(tmp_path / "models/cola")


def test_a_rule_of_one_s_own_runs_another_tool(project):
    """The worked example of docs/own-rule: mergekit's TIES, scored like a merge of our own."""
    shutil.copytree(ROOT / "docs/own-rule", project.folder, dirs_exist_ok=True)
    raw = settings() | {"rules": ["mergekit_ties.smk"]}
    raw["merge"]["variants"] += ["mergekit_ties", {"ties": {"scope": "tensor"}}]
    project.write(raw)
    names = ("mergekit_ties", "ties@scope=tensor")
    try:
        done = project.run("--", *(f"results/seconds/merges/{name}/3.jsonl" for name in names))
        assert done.returncode == 0, done.stderr[-2000:]
        theirs, ours = (project.scores()[f"merges/{name}/3.jsonl"][0] for name in names)
        assert theirs["method"] == "mergekit_ties"
        for task, score in ours["scores"].items():
            # Entries whose magnitudes tie where density cuts may fall on either side.
            assert theirs["scores"][task]["value"] == pytest.approx(score["value"], abs=1.5 / score["n"])
        weights = project.results / "external/mergekit_ties/cola+mnli+sst2/config.json"
        broken = json.loads(weights.read_text()) | {
            "num_hidden_layers": 2,
            "layer_types": ["full_attention"] * 2,
        }
        weights.write_text(json.dumps(broken))
        line = [
            sys.executable,
            "-m",
            "remerge",
            "merges",
            "results/seconds/config.yaml",
            "mergekit_ties",
            "3",
        ]
        shutil.rmtree(project.results / "journal/merges/mergekit_ties")
        done = subprocess.run(
            line, cwd=project.folder, env=project.environment, capture_output=True, text=True
        )
        assert done.returncode == 2 and "mergekit_ties/cola+mnli+sst2" in done.stderr
    finally:
        for name in names:
            shutil.rmtree(project.results / f"merges/{name}", ignore_errors=True)
        project.write(settings())


def test_a_new_task_computes_only_what_involves_it(project):
    before = project.scores()
    raw = settings()
    raw["tasks"]["qqp"] = asked("qqp")
    project.write(raw)
    expert = (project.results / "experts/cola.json").read_bytes()
    journal = project.results / "journal/merges/average/2.jsonl"
    known = journal.read_text().splitlines()
    target = "results/seconds/merges/average/2.jsonl"
    done = project.run(target)
    assert done.returncode == 0, done.stderr[-2000:]
    assert journal.read_text().splitlines()[: len(known)] == known
    assert len(journal.read_text().splitlines()) == len(known) + 3
    lines = {tuple(x["tasks"]): x for x in project.scores()["merges/average/2.jsonl"]}
    assert len(lines) == 6
    for line in before["merges/average/2.jsonl"]:
        assert lines[tuple(line["tasks"])] == line
    assert (project.results / "experts/cola.json").read_bytes() == expert
    (project.results / "merges/average/4.jsonl").unlink()
    project.write(settings())


def test_killed_and_run_again_gives_the_same_scores(project):
    project.write(settings())
    done = project.run("--", *MERGES)
    assert done.returncode == 0, done.stderr[-2000:]
    before = project.scores()
    log = project.folder / "killed.log"
    for name in ("merges", "journal", "selection"):
        shutil.rmtree(project.results / name)
    running = subprocess.Popen(
        project.command("--keep-incomplete", "--", *MERGES),
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=log.open("w"),
        start_new_session=True,
    )
    journals = project.results / "journal/merges"
    deadline = time.monotonic() + 120
    while not list(journals.rglob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    jobs = psutil.Process(running.pid).children(recursive=True)
    assert any("batch" in job.cmdline() for job in jobs)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert list(journals.rglob("*.jsonl")), log.read_text()[-2000:]
    _, alive = psutil.wait_procs(jobs, timeout=20)
    assert not alive  # what Snakemake had started ends without it
    broken = project.results / f"merges/average/{PARTIAL}{socket.gethostname()}~{jobs[0].pid}~3.jsonl.x.jsonl"
    broken.parent.mkdir(exist_ok=True)
    broken.write_text("half a li")
    assert list((project.folder / ".snakemake/locks").glob("*.lock"))
    done = project.run("--rerun-incomplete", "--", *MERGES)
    assert done.returncode == 0, done.stderr[-2000:]
    assert project.scores() == before
    assert not list(project.results.rglob(f"{PARTIAL}*"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["finetune"].update(stepz=3), "unknown key finetune.stepz, the nearest known is steps"),
        (lambda c: c["merge"].update(variants=[{"ties": {"density": 2}}]), "density must be"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_status_2(project, change, words):
    raw = settings()
    change(raw)
    project.write(raw)
    try:
        done = project.run("--dry-run")
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        project.write(settings())
