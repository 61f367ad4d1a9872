import csv
import html
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from worlds import as_benchmark, as_variant

from remerge import exhibits, sources
from remerge.__main__ import main
from remerge.report.run import Run

DIFFERING = ("methods", "cost", "drm_table1")
"""Exhibits that set methods of several benchmarks beside each other."""


def rows(name: str, runs: list[Run]) -> dict[str, dict[str, str]]:
    text = exhibits.known()[name].build(runs).csv()
    return {row["variant"]: row for row in csv.DictReader(io.StringIO(text))}


def test_a_page_of_several_benchmarks(glue: Path, drm: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert main(["compare", str(glue), str(drm), "--out", str(out)]) == 0
    page = out.read_text()
    assert re.findall(r'<section class="card" id="(\w+)"', page) == ["cost", "methods", "drm_table1"]
    assert "divmerge-glue, drm-t5-base" in page and "paper</th>" in page
    assert "ANP is the average normalised performance" in page
    assert not re.search(r"(src|srcset)\s*=|<script [^>]|<link|https?://", page)
    first = out.read_bytes()
    assert main(["compare", str(glue), str(drm), "--out", str(out)]) == 0
    assert out.read_bytes() == first


def test_the_command_and_the_captions_are_of_these_runs(glue: Path, drm: Path, tmp_path: Path) -> None:
    """A folder's name may have spaces, and what another tool merged is only loaded."""
    mine = Path(shutil.copytree(drm, tmp_path / "my drm"))
    raw = yaml.safe_load((mine / "config.yaml").read_text())
    raw["rules"] = ["mine.smk"]
    raw["merge"]["variants"].append("mine")
    (mine / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    as_variant(mine, "drm_h", "mine")
    out = tmp_path / "page.html"
    said = "A merge of another tool is only loaded here"
    for folder, times in ((drm, 0), (mine, 2)):
        assert main(["compare", str(glue), str(folder), "--out", str(out)]) == 0
        page = html.unescape(out.read_text())
        assert "(divmerge-glue: 7 tasks, drm-t5-base: 6 tasks)" in page and page.count(said) == times
    assert f"<code>remerge compare {glue} '{mine}' --out {out}</code>" in page


def test_methods_stand_beside_each_other_by_benchmark(glue: Path, drm: Path) -> None:
    table = rows("methods", [Run(glue), Run(drm)])
    one, two = Run(glue).anp_of("average", 7), Run(drm).anp_of("average", 6)
    assert list(table)[:3] == ["base", "expert", "multitask"]
    assert [
        float(table["average"][key]) for key in ("divmerge-glue", "drm-t5-base", "mean")
    ] == pytest.approx([one[0], two[0], np.mean([one[0], two[0]])], rel=1e-5)


def test_methods_whose_settings_differ_are_named(
    drm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same row has them, for a variant's name does not say what `merge.defaults` gives it."""

    def told(*folders: Path) -> set[str]:
        found = [exhibits.known()[name].build([*map(Run, folders)]) for name in DIFFERING]
        return {exhibit.facts["differing"] for exhibit in found}

    mine = Path(shutil.copytree(drm, tmp_path / "mine"))
    raw = yaml.safe_load((mine / "config.yaml").read_text())
    raw["merge"].setdefault("defaults", {})["ties"] = {"scale": 0.9}
    (mine / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert told(drm, drm) == {""}
    assert told(drm, mine) == {"Their settings differ between benchmarks: TIES."}
    raw["merge"]["defaults"]["ties"] = {"scale": 1.0}  # the default, written out
    (mine / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert told(drm, mine) == {""}
    raw["learning"] = {"batch_size": 2}
    (mine / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert told(drm, mine) == {"Their settings differ between benchmarks: DivMerge JS (LL)."}
    del raw["learning"]
    # Another method, which calls itself like one of these.
    monkeypatch.setattr(sources, "OWN", {})
    own = tmp_path / "my_average.py"
    own.write_text(
        (sources.METHODS / "linear/average.py").read_text().replace("def average(", "def my_average(")
    )
    (variant,) = (variant for variant in raw["merge"]["variants"] if variant["name"] == "average")
    variant |= {"name": "my_average", "method": "my_average"}
    (mine / "config.yaml").write_text(yaml.safe_dump(raw | {"methods": [str(own)]}, sort_keys=False))
    as_variant(mine, "average", "my_average")
    assert told(drm, mine) == {"Their settings differ between benchmarks: Model averaging."}


def test_what_a_method_costs_and_needs_and_its_worst_task_stand_beside_it(glue: Path, drm: Path) -> None:
    table = rows("methods", [Run(glue), Run(drm)])
    text = (drm / "merges/drm_h/6.jsonl").read_text()
    line = json.loads(text)
    row = table["drm_h"]
    assert float(row["drm-t5-base worst"]) == pytest.approx(100 * min(line["normalised"].values()), rel=1e-5)
    assert float(row["drm-t5-base seconds"]) == pytest.approx(line["seconds"]["merge"], rel=1e-5)
    assert float(row["drm-t5-base memory"]) == pytest.approx(line["memory"] / 2**30, rel=1e-5)
    assert row["divmerge-glue"] == row["mean"] == row["needs"] == ""
    learned = table["divmerge@divergence=js,level=layer"]
    assert learned["needs"] == "inputs, experts' answers on them, labels"
    assert float(learned["mean"]) == pytest.approx(
        (float(learned["divmerge-glue"]) + float(learned["drm-t5-base"])) / 2, rel=1e-4
    )


def test_the_best_single_expert_is_the_best_on_all_tasks(drm: Path, glue: Path) -> None:
    run = Run(drm)
    shares = {
        model: [run.accuracy[task][model] / run.accuracy[task][task] for task in run.tasks]
        for model in run.tasks
    }
    best = max(shares.values(), key=sum)
    row = rows("methods", [Run(glue), run])["expert"]
    assert float(row["drm-t5-base"]) == pytest.approx(100 * np.mean(best), rel=1e-5)
    assert float(row["drm-t5-base worst"]) == pytest.approx(100 * min(best), rel=1e-5)


def test_table1_of_drm_repeats_the_averages_of_table12(drm: Path, glue: Path) -> None:
    table = rows("drm_table1", [Run(glue), Run(drm)])
    text = exhibits.known()["drm_table12"].build(Run(drm)).csv()
    for row in csv.DictReader(io.StringIO(text)):
        mine = table[row["variant"]]
        assert mine["drm-t5-base"] == row["average"]
        assert mine["drm-t5-base_paper"] == row["average_paper"]
    assert "divmerge-glue" not in table["average"]


def test_a_benchmark_of_no_paper_has_no_column_of_the_papers(drm: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(drm, tmp_path / "mine"))
    raw = yaml.safe_load((mine / "config.yaml").read_text())
    (mine / "config.yaml").write_text(yaml.safe_dump(raw | {"benchmark": "mine"}, sort_keys=False))
    as_benchmark(mine, "mine")
    found = rows("drm_table1", [Run(drm), Run(mine)])["average"]
    assert "drm-t5-base_paper" in found and "mine" in found and "mine_paper" not in found


def test_a_run_without_the_merge_of_all_tasks_is_not_beside_the_papers_averages(drm: Path) -> None:
    config = Run(drm).config
    pairs = config.plans.model_copy(
        update={"subsets": config.plans.subsets.model_copy(update={"sizes": [2]})}
    )
    assert "drm_table1" in exhibits.of([config])
    assert "drm_table1" not in exhibits.of([config.model_copy(update={"plans": pairs})])


def test_a_tuned_method_differs_from_the_same_untuned_without_lines(drm: Path) -> None:
    (legend,) = exhibits.known()["cost"].build([Run(drm)]).legends
    handles = zip(legend.legend_handles, legend.get_texts(), strict=True)
    looks = {text.get_text(): (line.get_marker(), line.get_markeredgecolor()) for line, text in handles}
    assert looks["TIES"] != looks["TIES (tuned)"] and looks["TIES"][0] == looks["TIES (tuned)"][0]


def test_two_runs_of_one_benchmark_are_refused(
    glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(glue), str(glue), "--out", str(tmp_path / "page.html")]) == 2
    assert "two runs are of the benchmark divmerge-glue" in capsys.readouterr().err
