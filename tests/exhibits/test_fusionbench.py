"""FusionBench's published numbers, and the rows beside which they are shown."""

from statistics import fmean

import pandas as pd
import pytest
from projects import ROOT

from remerge import config as configuration
from remerge.exhibits import fusionbench
from remerge.exhibits._published import Published
from remerge.exhibits.fusionbench.tasks import ROWS
from remerge.report.labels import MODELS, printed, task_label

FOLDER = ROOT / "src/remerge/exhibits/fusionbench"
BENCHMARKS = ("flan-t5-glue", "flan-t5-glue-lora")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_published_row_is_beside_one_of_ours(benchmark):
    config = configuration.load(ROOT / f"config/{benchmark}.yaml")
    ours = {str(printed(variant.name)) for variant in config.merge.variants} | {MODELS["base"]}
    assert ROWS.keys() <= ours
    labels = [task_label(task) for task in config.tasks]
    merged = Published(FOLDER / "tasks.py", benchmark)
    assert [merged.column(label) for label in labels] == labels
    for row in ("Finetuned", *ROWS.values()):
        values = [merged.value(row, label) for label in labels]
        # Its one misprint is named in the caption.
        correct = [80.5 if value == 90.5 else value for value in values]
        assert fmean(correct) == pytest.approx(merged.value(row, "Average"), abs=0.051)
    experts = Published(FOLDER / "experts.py", benchmark)
    for row in (MODELS["base"], *labels):
        assert all(0 < experts.value(row, label) < 100 for label in labels)
    for label in labels:
        assert experts.value(label, label) == pytest.approx(merged.value("Finetuned", label), abs=0.11)
        assert experts.value(MODELS["base"], label) == pytest.approx(
            merged.value("Pre-trained", label), abs=0.051
        )


def test_no_number_is_of_another_benchmark():
    assert fusionbench.__doc__ and "Flan-T5-base" in fusionbench.__doc__
    for file in FOLDER.glob("*.csv"):
        assert {*pd.read_csv(file)["benchmark"]} == {*BENCHMARKS}
