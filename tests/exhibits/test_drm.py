"""DRM's exhibits against the records that they are made of, and against the paper."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from reading import merges
from scipy import stats
from worlds import as_variant

from remerge import config as configuration
from remerge import exhibits
from remerge.analysis.significance import paired_p
from remerge.report.figure import Figure
from remerge.report.run import Run
from remerge.sources import EXHIBITS

ROOT = Path(__file__).parents[2]


def rows(results: Path, name: str, key: str) -> dict[str, dict[str, str]]:
    text = exhibits.known()[name].build(Run(results)).csv()
    return {row[key]: row for row in csv.DictReader(io.StringIO(text))}


def scores_of(number: int) -> pd.DataFrame:
    table = pd.read_csv(EXHIBITS / f"drm/table{number}.csv")
    return table.pivot(index="row", columns="column", values="value")


def figure(results: Path, name: str) -> Figure:
    made = exhibits.known()[name].build(Run(results))
    assert isinstance(made, Figure)
    return made


def of_all(results: Path, variant: str) -> float:
    (merge,) = merges(results, variant, 6)
    return float(100 * np.mean([score["value"] for score in merge["scores"].values()]))


def test_every_row_of_the_papers_tables_has_its_number(drm: Path) -> None:
    """Also those with a validation set."""
    table = rows(drm, "drm_table12", "method")
    paper = pd.read_csv(EXHIBITS / "drm/table12.csv").set_index(["row", "column"])["value"]
    printed = [
        float(row[key]) for row in table.values() for key in row if key.endswith("_paper") and row[key]
    ]
    assert sorted(printed) == sorted(paper) and len(printed) == 84
    assert table["TIES"]["qasc_paper"] == "63.9" and table["TIES (tuned)"]["qasc_paper"] == "71.5"
    assert float(table["TIES (tuned)"]["average"]) == pytest.approx(of_all(drm, "ties@tuned"), rel=1e-5)


STEPS = [f"drm_h@{step}=False" for step in ("prune", "elect", "disjoint")]
PRUNING = ["drm_h@pruning=individual", "drm_h", "drm_v@pruning=individual", "drm_v"]


@pytest.mark.parametrize(
    ("number", "variants", "paper"),
    [
        (3, ["drm_h", "drm_h@renormalise=False"], "73.6 68.6"),
        (7, ["drm_h", *STEPS], "73.6 72.4 76.7 57.5"),
        (8, PRUNING, "73.6 73.6 72.5 72.8"),
    ],
)
def test_ablations(drm: Path, number: int, variants: list[str], paper: str) -> None:
    table = rows(drm, f"drm_table{number}", "variant")
    assert list(table) == ["base", *variants]
    assert [row["average_paper"] for row in table.values()] == ["", *paper.split()]
    base = json.loads((drm / "scores/base.json").read_text())["scores"]
    assert float(table.pop("base")["qasc"]) == pytest.approx(100 * base["qasc"]["value"], rel=1e-5)
    for variant, row in table.items():
        assert float(row["average"]) == pytest.approx(of_all(drm, variant), rel=1e-5)
        (merge,) = merges(drm, variant, 6)
        assert float(row["qasc"]) == pytest.approx(100 * merge["scores"]["qasc"]["value"], rel=1e-5)


def test_table6_is_the_paired_test_over_subsets_and_tasks(drm: Path) -> None:
    table = rows(drm, "drm_table6", "size")
    pairs = {size: row["n"] for size, row in table.items()}
    assert pairs == {"2": "30", "3": "60", "4": "60", "5": "30", "6": "6"}
    for size in (2, 6):
        ours, theirs = (
            np.array([share for merge in merges(drm, v, size) for share in merge["normalised"].values()])
            for v in ("drm_h", "dare_ties")
        )
        expected = stats.ttest_rel(ours, theirs, alternative="greater").pvalue
        row = table[str(size)]
        assert float(row["dare_ties_p"]) == pytest.approx(expected, rel=1e-4)
        assert float(row["dare_ties_lead"]) == pytest.approx(100 * (ours - theirs).mean(), rel=1e-4)
    assert table["6"]["average_paper"] == "0.0283" and table["3"]["ties_paper"] == "0.0368"
    cells = exhibits.known()["drm_table6"].build(Run(drm)).cells()
    assert "2.83e−2" in cells[-1] and "4.20e−6" in cells[1]


# The published p, and all that agrees with the rounded scores of the paper's other tables.
TESTS = [
    (10, "Simple Averaging", 2.18e-3, (1.92e-3, 2.27e-3)),
    (10, "TIES Merging", 4.61e-3, (3.99e-3, 4.95e-3)),
    (10, "Dare-TIES", 3.80e-3, (3.71e-3, 4.36e-3)),
    (12, "Simple Averaging", 2.83e-2, (2.73e-2, 2.98e-2)),
    (12, "TIES Merging", 2.32e-1, (0.220, 0.251)),
    (12, "Dare-TIES", 3.17e-1, (0.302, 0.343)),
]


@pytest.mark.parametrize(("number", "baseline", "published", "bounds"), TESTS)
@pytest.mark.parametrize("normalise", [True, False])
def test_the_papers_tests_are_of_normalised_scores(
    number: int, baseline: str, published: float, bounds: tuple[float, float], normalise: bool
) -> None:
    """The p of the merge of all tasks follows from the paper's scores; from raw accuracies it does not."""
    table = scores_of(number).drop(columns="Average")
    own = table.loc["Finetuned"] if normalise else pd.Series(1.0, table.columns)
    found = paired_p(list(table.loc["DRM-H"] / own), list(table.loc[baseline] / own))
    least, most = extremes(table.loc["DRM-H"], table.loc[baseline], own, found)
    assert (least <= published <= most) == normalise
    if normalise:
        assert (least, most) == pytest.approx(bounds, rel=5e-3)


def extremes(ours: pd.Series, theirs: pd.Series, own: pd.Series, p: float) -> tuple[float, float]:
    """How small and large p can be if every score is rounded to a tenth: each corner of the box, in turn."""
    ends = []
    for better in (min, max):
        best, leads = p, (ours - theirs).to_numpy().copy()
        for _ in range(4):
            for place in range(len(leads)):
                options = []
                for shift in (-0.1, 0, 0.1):
                    tried = leads.copy()
                    tried[place] = (ours - theirs).iloc[place] + shift
                    options.append((paired_p(list(tried / own), [0.0] * len(own)), tuple(tried)))
                best, leads = better(options)[0], np.array(better(options)[1])
        ends.append(best)
    return ends[0], ends[1]


def test_tables_1_and_2_have_the_rows_with_a_validation_set(drm: Path, lora: Path) -> None:
    one, two = (
        {row["method"]: row for row in csv.DictReader(io.StringIO(exhibits.known()[name].build(runs).csv()))}
        for name, runs in (("drm_table1", [Run(drm)]), ("drm_table2", [Run(lora)]))
    )
    assert one["DRM-V (tuned)"]["drm-t5-base_paper"] == "75.1" and one["DRM-V"]["drm-t5-base_paper"] == "72.8"
    assert two["DRM-V (tuned)"]["drm-llama-lora_paper"] == "74.3"
    assert two["TIES"]["drm-llama-lora_paper"] == "67.1"
    published = pd.read_csv(EXHIBITS / "compare/drm_table2.csv")["value"]
    printed = [row["drm-llama-lora_paper"] for row in two.values() if row["drm-llama-lora_paper"]]
    assert sorted(map(float, printed)) == sorted(published)


def test_figure2_has_a_point_a_subset_and_a_line_of_means(drm: Path) -> None:
    (axes,) = figure(drm, "drm_figure2").axes
    (line,) = [line for line in axes.lines if line.get_label() == "DRM-H"]
    means = [np.mean([merge["anp"] for merge in merges(drm, "drm_h", size)]) for size in range(2, 7)]
    assert list(line.get_ydata()) == pytest.approx(means)  # type: ignore[arg-type]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_ydata()) for line in points) == 4 * (15 + 20 + 15 + 6 + 1)  # type: ignore[arg-type]
    assert {"Unmerged base", "Multitask"} < {line.get_label() for line in axes.lines}


def test_figure6_runs_from_all_ranks_to_few(drm: Path) -> None:
    (axes,) = figure(drm, "drm_figure6").axes
    (line,) = [line for line in axes.lines if line.get_label() == "DRM-H"]
    assert list(line.get_xdata()) == pytest.approx([0, 0.2, 0.6, 0.9])  # type: ignore[arg-type]
    expected = [of_all(drm, v) for v in ("drm_h", *(f"drm_h@rank={rank}" for rank in (0.8, 0.4, 0.1)))]
    assert list(line.get_ydata()) == pytest.approx(expected)  # type: ignore[arg-type]


def test_figure6_needs_two_ranks_and_no_plain_merge(drm: Path, tmp_path: Path) -> None:
    """A rank chosen on validation scores may differ between plans, and is no point."""
    results = Path(shutil.copytree(drm, tmp_path / "drm-t5-base"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    kept = [
        v for v in raw["merge"]["variants"] if v["name"] in ("average", "drm_h@rank=0.8", "drm_h@rank=0.4")
    ]
    tuned = {"name": "drm_h@tuned", "method": "drm_h", "params": {"rank": {"tune": [0.5, 1.0]}}}
    as_variant(results, "drm_h", "drm_h@tuned")
    exhibit = exhibits.known()["drm_figure6"]
    for variants, applies in (([*kept, tuned], True), ([kept[0], kept[1], tuned], False)):
        raw["merge"]["variants"] = variants
        (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        assert exhibit.applies(configuration.load(results / "config.yaml")) == applies
        if applies:
            (axes,) = figure(results, "drm_figure6").axes
            assert [line.get_label() for line in axes.lines] == ["DRM-H", "Model averaging"]
            assert axes.lines[0].get_xdata() == pytest.approx([0.2, 0.6])


def test_table6_leaves_out_a_method_that_merges_no_subsets(drm: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drm, tmp_path / "drm-t5-base"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    raw["plans"] = {
        "subsets": {"variants": ["average", "drm_h"]},
        "negation": {"variants": ["ties"]},
    }
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    table = rows(results, "drm_table6", "size")
    assert {*table["2"]} == {"size", "n", "average_lead", "average_p", "average_paper"}
    assert table["2"]["average_p"] == rows(drm, "drm_table6", "size")["2"]["average_p"]


def test_figure7_is_the_grid_of_validation_merits(drm: Path) -> None:
    panels = figure(drm, "drm_figure7").axes
    assert [axes.get_title() for axes in panels] == ["λ = 0.8", "λ = 1", "λ = 1.2"]
    grid = json.loads((drm / "selection/drm_v@tuned.json").read_text())["grid"]
    for axes, scale in zip(panels, (0.8, 1.0, 1.2), strict=True):
        assert [line.get_label() for line in axes.lines] == ["TIES", "DARE-TIES", "DRM-H", "DRM-V"]
        expected = [point["mean"] for point in grid if point["params"]["scale"] == scale]
        assert list(axes.lines[-1].get_ydata()) == expected and len(expected) == 3  # type: ignore[arg-type]


def test_figure7_leaves_out_densities_of_each_expert(drm: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drm, tmp_path / "drm-t5-base"))
    path = results / "selection/ties@tuned.json"
    record = json.loads(path.read_text())
    for k, point in enumerate(record["grid"][4:]):
        point["params"]["density"] = [{"qasc": 0.1}, [0.1, 0.2]][k % 2]
    path.write_text(json.dumps(record))
    for axes, scale in zip(figure(results, "drm_figure7").axes, (0.8, 1.0, 1.2), strict=True):
        shared = [p["mean"] for p in record["grid"][:4] if p["params"]["scale"] == scale]
        assert list(axes.lines[0].get_ydata()) == shared and shared  # type: ignore[arg-type]
    raw = yaml.safe_load((results / "config.yaml").read_text())
    tuned = {"density": {"qasc": {"tune": [0.1, 0.2]}}, "scale": {"tune": [0.8, 1.0, 1.2]}}
    raw["merge"]["variants"] = [{"ties": tuned}]
    (results / "config.yaml").write_text(yaml.safe_dump(raw))
    assert "drm_figure7" not in exhibits.of(Run(results).config)


@pytest.mark.parametrize("number", [12, 13])
def test_on_t5_the_paper_chooses_the_default_scale(number: int) -> None:
    """So a search that is right returns 0.4 there."""
    table = scores_of(number)
    assert (table.loc["Task Arithmetic"] == table.loc["Task Arithmetic (validation)"]).all()


@pytest.mark.parametrize(
    ("number", "task", "column", "fit"),
    [
        (12, "qasc", "QASC", 12),
        (13, "qasc", "QASC", 10),
        (14, "qasc", "QASC", 12),
        (12, "quartz", "Quartz", 11),
        (13, "quartz", "Quartz", 12),
        (15, "sst2", "SST2", 10),
        (15, "rte", "RTE", 11),
        (15, "cola", "COLA", 12),
    ],
)
def test_scores_are_shares_of_the_test_splits(number: int, task: str, column: str, fit: int) -> None:
    """Of the sizes that our configurations name; QASC's is its validation split, which 813 would not fit."""
    name = {12: "drm-t5-base", 13: "drm-t5-large", 14: "drm-deberta", 15: "drm-llama-lora"}[number]
    config = configuration.load(ROOT / f"config/{name}.yaml")
    scores = scores_of(number)[column]
    fits = [
        sum(abs(100 * round(score * n / 100) / n - score) <= 0.05 + 1e-9 for score in scores)
        for n in (config.tasks[task].sizes.test, 813)
    ]
    assert fits[0] == fit and (column != "QASC" or fits[1] < fit)


def test_merges_that_answer_one_class_have_its_share() -> None:
    """Task arithmetic on Llama, tuned, and averaging on T5 and DeBERTa: shares of classes in the tests."""
    llama = scores_of(15).loc["Task Arithmetic (validation)"]
    assert llama["COLA"] == pytest.approx(100 * 721 / 1043, abs=0.05)
    assert llama["SST2"] == pytest.approx(100 * 444 / 872, abs=0.05)
    for number in (12, 13):
        assert scores_of(number).loc["Simple Averaging", "WikiQA"] == 95.3
