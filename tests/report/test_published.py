"""The transcription of the paper's tables, checked by the averages that the paper prints."""

from pathlib import Path

import pandas as pd
import pytest

from remerge.report.published import Published

FOLDER = Path(__file__).parents[2] / "config/published"


@pytest.mark.parametrize(
    ("name", "average", "digits"),
    [("divmerge_table2", "Avg.", 3), ("divmerge_table6", "Average", 2), ("divmerge_table7", "Average", 2)],
)
def test_averages_agree_with_the_rows(name: str, average: str, digits: int) -> None:
    frame = pd.read_csv(FOLDER / f"{name}.csv", dtype={"row": str})
    wide = frame.pivot(index="row", columns="column", values="value")
    gaps = (wide.drop(average).mean() - wide.loc[average]).abs()
    assert gaps.max() < 1.0 * 10**-digits


def test_accuracies_are_shares_of_the_test_sets() -> None:
    frame = pd.read_csv(FOLDER / "divmerge_table5.csv")
    sizes = {"RTE": 277, "MRPC": 400}
    for task, value in zip(frame["column"], frame["value"], strict=True):
        right = value / 100 * sizes.get(task, 500)
        assert right == pytest.approx(round(right), abs=0.02)
    assert len(frame) == 49


def test_table4_repeats_the_intervals_of_table3() -> None:
    published = Published("divmerge-generation")
    for row in ("Model Averaging", "TIES", "TL Adamerging", "TL JS (ours)", "LL JS (ours)"):
        half = published.half_width("divmerge_table3", row, "Gen.")
        assert published.value("divmerge_table4", row, "2") == half


def test_uniform_shape() -> None:
    for path in FOLDER.glob("*.csv"):
        frame = pd.read_csv(path)
        assert list(frame) == ["benchmark", "table", "row", "column", "value", "plus_minus"]
        assert set(frame["table"]) == {path.stem}
        assert not frame.duplicated(["benchmark", "row", "column"]).any()


def test_a_benchmark_of_nobody() -> None:
    published = Published("demo")
    assert published.first("divmerge_table3") is None
    assert published.value("divmerge_table3", "TIES", "Classif.") != 0


def test_columns_are_found_whatever_their_spelling() -> None:
    llama = Published("drm-llama-lora")
    assert llama.column("drm_table15", "SST-2") == "SST2"
    assert llama.column("drm_table15", "CoLA") == "COLA"
    assert llama.column("drm_table15", "QQP") is None
    assert llama.column(None, "CoLA") is None
    assert llama and not Published("my-own")
