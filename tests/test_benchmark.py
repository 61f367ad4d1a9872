"""A finished run in Python: frames, exhibits, wrong names."""

import math

import pandas as pd
import pytest

import remerge
from remerge.errors import UserError
from remerge.report.run import Run


@pytest.fixture(scope="module")
def demo(world):
    return remerge.Benchmark.open(world)


def test_merges_are_rows(demo):
    merges = demo.merges
    assert len(merges) == len(demo.run.merged) and merges.anp.between(0, 110).all()
    first = merges.iloc[0]
    assert (first.variant, first.plan, first["size"], first.tasks) == (
        "average",
        "subsets",
        2,
        ("cola", "mrpc"),
    )
    assert first.case == "cola+mrpc"
    assert set(merges[merges.method == "ties"].label) == {"TIES"}


def test_scores_of_merges_and_of_the_unmerged(demo):
    scores = demo.scores
    assert set(scores.model) == {"base", "multitask", "merge", *demo.tasks}
    own = scores[(scores.model == "cola") & (scores.task == "cola")]
    assert own.normalised.tolist() == [1.0]
    merge = scores[(scores.variant == "average") & (scores.case == "cola+mrpc")].set_index("task")
    anp = demo.merges.set_index(["variant", "case"]).anp["average", "cola+mrpc"]
    assert math.isclose(100 * merge.normalised[["cola", "mrpc"]].mean(), anp, rel_tol=1e-6)


def test_coefficients_by_expert_and_layer(demo):
    found = demo.coefficients
    assert set(found.expert) <= {*demo.tasks}
    assert found[found.variant.str.contains("level=task")].layer.isna().all()


def test_single_examples_have_the_scores_as_their_means(demo):
    found = demo.outcomes("cola", "cola+mrpc")
    assert list(found) == ["expert", *[variant.name for variant in demo.run.variants]]
    scores = demo.scores
    mine = scores[(scores.variant == "average") & (scores.case == "cola+mrpc") & (scores.task == "cola")]
    assert math.isclose(found.average.mean(), mine.value.item(), abs_tol=1e-3)


def test_every_exhibit_is_a_figure_or_a_styled_table(demo):
    listed = demo.exhibits.set_index("name")
    for name in listed.index:
        made = demo.exhibit(name)
        if listed.kind[name] == "figure":
            assert made._repr_png_().startswith(b"\x89PNG")
        else:
            assert "<table" in made.to_html() and "<caption>" in made.to_html()
            assert isinstance(demo.frame(name), pd.DataFrame)
    assert "font-weight: bold" in demo.exhibit("divmerge_table3").to_html()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda demo: demo.exhibit("divmerge_table33"), "unknown exhibit 'divmerge_table33' of demo"),
        (lambda demo: demo.frame("divmerge_figure2"), "is a figure"),
        (lambda demo: demo.outcomes("cola", "mrpc+rte"), "cola is not merged in mrpc"),
        (lambda demo: demo.outcomes("colla", "cola+rte"), "did you mean cola"),
        (lambda demo: demo.examples("cola"), "test.parquet is missing"),
        (lambda demo: demo.model("average", "cola+mrpc"), "is not results/demo: name the folder of a run"),
        (lambda demo: remerge.Benchmark.open("nowhere"), "nowhere: not the folder of a run"),
    ],
)
def test_wrong_names(demo, ask, words):
    with pytest.raises(UserError, match=words):
        ask(demo)


def test_a_subset_that_was_not_merged_has_no_outcomes(demo, monkeypatch):
    monkeypatch.setattr(Run, "merges", lambda *_: [])
    with pytest.raises(UserError, match=r"cola\+rte is not among the merges of this run"):
        demo.outcomes("cola", "cola+rte")
