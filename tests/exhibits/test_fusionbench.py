"""FusionBench's published numbers, and the rows beside which they are shown."""

from statistics import fmean

import pandas as pd
import pytest
from projects import ROOT

from remerge import config as configuration
from remerge.exhibits._published import Published
from remerge.exhibits.fusionbench.tasks import ROWS
from remerge.report.labels import MODELS, printed, task_label

FOLDER = ROOT / "src/remerge/exhibits/fusionbench"
BENCHMARKS = ("flan-t5-glue", "flan-t5-glue-lora", "clip-vit-b32", "clip-vit-b16", "clip-vit-l14")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_published_row_is_beside_one_of_ours(benchmark):
    config = configuration.load(ROOT / f"config/{benchmark}.yaml")
    ours = {str(printed(variant.name)) for variant in config.merge.variants} | {MODELS["base"]}
    ours |= {MODELS["multitask"]} if config.finetune.multitask else set()
    labels = [task_label(task) for task in config.tasks]
    merged = Published(FOLDER / "tasks.py", benchmark)
    assert [merged.column(label) for label in labels] == labels
    theirs = pd.read_csv(FOLDER / "tasks.csv").query("benchmark == @benchmark")["row"]
    assert {*theirs} <= {"Finetuned", *(ROWS[label] for label in ours & ROWS.keys())}
    assert len({*theirs}) >= 5
    for row in {*theirs}:
        values = [merged.value(row, label) for label in labels]
        # Its one misprint is named in the caption.
        correct = [80.5 if value == 90.5 else value for value in values]
        assert fmean(correct) == pytest.approx(merged.value(row, "Average"), abs=0.1)
    experts = Published(FOLDER / "experts.py", benchmark)
    for label in labels:
        assert all(0 < experts.value(label, other) < 100 for other in labels)
        assert experts.value(label, label) == pytest.approx(merged.value("Finetuned", label), abs=0.11)
        base = experts.value(MODELS["base"], label)  # not published for CLIP ViT-B/16
        assert (base != base) == (benchmark == "clip-vit-b16")
        assert base != base or base == pytest.approx(merged.value("Pre-trained", label), abs=0.11)


def test_no_number_is_of_another_benchmark():
    for file in FOLDER.glob("*.csv"):
        assert {*pd.read_csv(file)["benchmark"]} == {*BENCHMARKS}
