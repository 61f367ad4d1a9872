"""The transcription of the papers' tables, checked by what the papers print of them."""

import math
from itertools import combinations, permutations
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from remerge.analysis.correlation import spearman
from remerge.exhibits._published import Published
from remerge.records import Score, anp, normalised
from remerge.sources import EXHIBITS

ROOT = Path(__file__).parents[2]


TRUNCATED = {  # averages that the papers cut off instead of rounding
    "divmerge/table6": {"TL KL (ours)"},
    "drm/table10": {"DRM-V (validation)"},
    "drm/table15": {"Task Arithmetic", "TIES Merging (validation)"},
}


def wide(table: str) -> pd.DataFrame:
    frame = pd.read_csv(EXHIBITS / f"{table}.csv", dtype={"row": str, "column": str})
    return frame.pivot(index="row", columns="column", values="value")


def misses(table: str, means: pd.Series, averages: pd.Series, digits: int) -> set[str]:
    """Where the mean of what is printed does not round to the average that is printed."""
    gaps = (means - averages).abs()
    return set(gaps[gaps > 0.5 * 10**-digits + 1e-9].index)


@pytest.mark.parametrize(
    ("table", "average", "digits"),
    [("divmerge/table2", "Avg.", 3), ("divmerge/table6", "Average", 2), ("divmerge/table7", "Average", 2)],
)
def test_averages_of_divmerge_agree_with_the_rows(table: str, average: str, digits: int) -> None:
    values = wide(table)
    found = misses(table, values.drop(average).mean(), values.loc[average], digits)
    assert found == TRUNCATED.get(table, set())


def test_accuracies_are_shares_of_the_test_sets() -> None:
    frame = pd.read_csv(EXHIBITS / "divmerge/table5.csv")
    sizes = {"RTE": 277, "MRPC": 400}
    for task, value in zip(frame["column"], frame["value"], strict=True):
        right = value / 100 * sizes.get(task, 500)
        assert right == pytest.approx(round(right), abs=0.02)
    assert len(frame) == 49


def test_table4_repeats_the_intervals_of_table3() -> None:
    three, four = (Published(EXHIBITS / f"divmerge/table{n}.py", "divmerge-generation") for n in (3, 4))
    for row in ("Model Averaging", "TIES", "TL Adamerging", "TL JS (ours)", "LL JS (ours)"):
        assert four.value(row, "2") == three.half_width(row, "Gen.")


def test_pairs_disagree_between_the_tables_of_divmerge() -> None:
    """Table 7's are shares of 384, but one that is not."""
    three = pd.read_csv(EXHIBITS / "divmerge/table3.csv").set_index(["benchmark", "row"])["value"]
    seven = wide("divmerge/table7").loc["2"]
    for benchmark, pairs in (
        ("divmerge-glue", wide("divmerge/table6").loc["2"]),
        ("divmerge-generation", seven),
    ):
        assert (three[benchmark] - pairs).abs().min() > 0.1
    gaps = [abs(value - 100 * round(3.84 * value) / 384) for value in seven]
    assert sum(gap <= 0.01 for gap in gaps) == 8


def test_a_lead_that_the_text_of_drm_gives_is_another_in_its_table() -> None:
    tuned = wide("compare/drm_table2").loc["Llama 3.1-8B (validation)"]
    strongest = tuned[["Task Arithmetic", "TIES", "Dare-TIES"]].max()
    assert (tuned[["DRM-H", "DRM-V"]] - strongest).tolist() == pytest.approx([3.9, 4.9])


def test_no_published_correlation_is_a_spearman_of_seven_models() -> None:
    """Whatever the divergences: of all orders of seven, the accuracies of Table 5 allow none of them."""
    orders = np.array([*permutations(range(-3, 4))]) / np.sqrt(28)
    published = wide("divmerge/table2").drop("Avg.").to_numpy().ravel()
    accuracy = wide("divmerge/table5")
    for values in (*accuracy.T.to_numpy(), *accuracy.to_numpy()):
        ranks = rankdata(values) - 4
        possible = orders @ ranks / np.linalg.norm(ranks)
        assert possible[77] == pytest.approx(spearman(orders[77].tolist(), values.tolist()))
        if len({*values}) == 7:
            assert np.allclose(possible * 28, np.round(possible * 28))
        assert np.abs(possible[:, None] - published).min() > 0.0005


def test_uniform_shape() -> None:
    files = sorted(EXHIBITS.glob("*/*.csv"))
    assert len(files) == 25
    for path in files:
        frame = pd.read_csv(path)
        assert list(frame) == ["benchmark", "row", "column", "value", "plus_minus"]
        assert not frame.duplicated(["benchmark", "row", "column"]).any()


def test_the_table_of_the_slides() -> None:
    """Eleven rows of three models, each of a benchmark that runs it; searching λ never costs."""
    frame = pd.read_csv(EXHIBITS / "slides/table.csv")
    assert len(frame) == 33
    models = ("b32", "b16", "l14")
    for benchmark in frame["benchmark"]:
        assert (ROOT / f"config/{benchmark}.yaml").exists()
        assert benchmark.removesuffix("-linearised").removesuffix("-tau-jp") in {
            f"slides-vit-{m}" for m in models
        }
    for row in ("Non-lin. FT", "Linear FT", "Ties-Merging", "Ours"):
        some = frame[frame["row"] == row].set_index(["benchmark", "column"])["value"].unstack()
        assert len(some) == 3 and (some["Grid-searched"] >= some["1.0"]).all()
    means = frame.groupby(["row", "column"], sort=False)["value"].mean()
    assert means["Pre-trained", "–"] == pytest.approx(55.63, abs=0.005)
    assert means["AdaMerging", "Trained"] == pytest.approx(85.27, abs=0.005)


def test_a_benchmark_of_nobody() -> None:
    published = Published(EXHIBITS / "divmerge/table3.py", "demo")
    assert not published and published.columns == []
    assert math.isnan(published.value("TIES", "Classif."))


def test_columns_are_found_whatever_their_spelling() -> None:
    llama = Published(EXHIBITS / "drm/table15.py", "drm-llama-lora")
    assert llama.column("SST-2") == "SST2"
    assert llama.column("CoLA") == "COLA"
    assert llama.column("QQP") is None


@pytest.mark.parametrize("number", range(10, 16))
def test_averages_of_drm_agree_with_the_tasks_and_with_its_first_tables(number: int) -> None:
    table = f"drm/table{number}"
    values = wide(table)
    average = values.pop("Average")
    assert len(values) == 12
    assert misses(table, values.mean(axis=1), average, 1) == TRUNCATED.get(table, set())
    (benchmark,) = set(pd.read_csv(EXHIBITS / f"{table}.csv")["benchmark"])
    assert (ROOT / f"config/{benchmark}.yaml").exists()
    first = pd.read_csv(EXHIBITS / f"compare/drm_table{2 if number == 15 else 1}.csv")
    mine = first[first["benchmark"] == benchmark]
    if number == 15:
        assert sorted(mine["value"]) == sorted(average.drop("Finetuned"))
    else:
        found = mine.set_index("row")["value"].rename({"Finetune": "Finetuned"})
        assert found.to_dict() == average.to_dict()


def test_the_mean_anp_of_an_unmerged_expert_is_the_same_at_every_size() -> None:
    """Of DivMerge's experts, from Table 5: each task stands in as many merges of a size as any other."""
    table = wide("divmerge/table5")
    tasks = list(table)
    expected = {
        "CoLA": 61.00,
        "SST-2": 58.19,
        "QQP": 53.23,
        "QNLI": 62.21,
        "MNLI": 64.75,
        "RTE": 60.95,
        "MRPC": 57.58,
    }
    own = {task: Score(metric="accuracy", value=float(table.loc[task, task]), n=1) for task in tasks}
    for expert, mean in expected.items():
        scores = {task: Score(metric="accuracy", value=float(table.loc[expert, task]), n=1) for task in tasks}
        for size in range(2, 8):
            merges = [
                anp(normalised({task: scores[task] for task in subset}, own))
                for subset in combinations(tasks, size)
            ]
            assert fmean(merges) == pytest.approx(mean, abs=0.005)
