from pathlib import Path
from typing import get_args

import pytest

from remerge import sources
from remerge.config import load
from remerge.config.tasks import Metric
from remerge.exhibits.divmerge._rows import ROWS
from remerge.report.labels import METRICS, every, printed, task_label
from remerge.report.style import apart, style
from remerge.variants import name_of

CONFIGS = sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))


@pytest.mark.parametrize(
    ("variant", "name", "row"),
    [
        ("average", "Model averaging", "Model Averaging"),
        ("task_arithmetic", "Task arithmetic", None),
        ("task_arithmetic@scale=0.4", "Task arithmetic", None),
        ("task_arithmetic@scale=0.6", "Task arithmetic (scale 0.6)", None),
        ("multi_slerp", "Multi-SLERP", "Multi-SLERP"),
        ("ties", "TIES", "TIES"),
        ("ties@density=0.2,scale=1", "TIES", "TIES"),
        ("ties@density=0.1,scale=1.0", "TIES (density 0.1)", None),
        ("adamerging@level=layer", "AdaMerging (LL)", "LL Adamerging"),
        ("divmerge@divergence=js,level=task", "DivMerge JS (TL)", "TL JS (ours)"),
        ("divmerge@divergence=kl,level=layer", "DivMerge KL (LL)", "LL KL (ours)"),
        ("divmerge@divergence=reverse_kl,level=task", "DivMerge reverse KL (TL)", None),
        ("ties@tuned", "TIES (tuned)", None),
        ("drm_h@prune=False", "DRM-H (no prune)", None),
        ("mine@alpha=3", "mine@alpha=3", None),
        ("ties@tuned", "TIES (tuned)", None),
        ("ties@scope=tensor,tuned=1a2b3c4d", "TIES (scope tensor, tuned 1a2b3c4d)", None),
        ("dare_ties@seeds=3", "DARE-TIES", None),
        ("average@weights=0.3+0.7", "Model averaging (weights 0.3+0.7)", None),
    ],
)
def test_names(variant: str, name: str, row: str | None) -> None:
    assert str(printed(variant)) == name
    assert ROWS.get(name) == row


def test_parameters_that_are_defaults_come_from_the_record() -> None:
    assert str(printed("divmerge", {"divergence": "kl", "level": "layer"})) == "DivMerge KL (LL)"
    assert str(printed("divmerge@level=task", {"divergence": "kl", "level": "task"})) == "DivMerge KL (TL)"


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        (
            "divmerge",
            {"over": "drm_h@density=0.5", "level": "task"},
            "DivMerge JS (TL, over DRM-H (density 0.5))",
        ),
        ("divmerge", {"over": "tsv_m"}, "DivMerge JS (TL, over TSV-M)"),
        ("adamerging", {"over": "ties@aggregate=sum"}, "AdaMerging (TL, over TIES (aggregate sum))"),
        ("lines", {"over": "dare"}, "LiNeS (over DARE)"),
        ("divmerge", {"initial": "1/T"}, "DivMerge JS (TL, initial 1/T)"),
    ],
)
def test_words_that_name_no_folder_are_printed_as_they_are(
    method: str, params: dict[str, str], name: str
) -> None:
    """They were printed as their digests."""
    assert str(printed(name_of(method, params), params)) == name


def test_a_number_for_each_task_is_told_from_another_by_a_digest() -> None:
    one, two = (
        printed(name_of("task_arithmetic", scales), scales)
        for scales in ({"scale": {"cola": 0.3, "rte": number}} for number in (0.4, 0.5))
    )
    assert str(one).startswith("Task arithmetic (scale by task ") and one != two


def test_a_number_for_each_layer_is_not_said_to_be_by_task() -> None:
    params = {"scale": {"model.layers.0": 0.1, "other": 0.2}}
    assert str(printed(name_of("layerwise", params), params)).startswith(
        "Layer-wise task arithmetic (scale by layer "
    )


def test_tasks() -> None:
    assert (task_label("sst2"), task_label("mine")) == ("SST-2", "mine")


def test_a_method_looks_the_same_everywhere_and_unlike_the_others() -> None:
    names = ["average", "task_arithmetic", "multi_slerp", "ties", "base", "multitask"]
    names += ["dare_ties", "drm_h", "drm_v", "ties@tuned", "drm_h@tuned"]
    names += [f"adamerging@level={level}" for level in ("task", "layer")]
    names += [
        f"divmerge@divergence={kind},level={level}" for kind in ("kl", "js") for level in ("task", "layer")
    ]
    looks = [style(name) for name in names]
    assert len({str(look) for look in looks}) == len(names)
    without_colour = {(look.marker, look.filled, str(look.line)) for look in looks}
    assert len(without_colour) == len(names)
    assert [style(name) for name in names] == looks


def test_methods_look_unlike_each_other_and_only_coefficients_of_tasks_are_hollow() -> None:
    assert len({str(style(name)) for name in sources.known()}) == len(sources.known())
    variants = [(v.name, v.params) for file in CONFIGS for v in load(file).merge.variants]
    for name, params in variants:
        assert style(name, params).filled == (printed(name, params).level != "TL"), name
        # Small circles, hexagons and octagons look the same.
        assert set(printed(name, params).notes) <= {"tuned"} or style(name, params).marker not in "oh8H", name


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_methods_of_one_figure_can_be_told_apart(file: Path) -> None:
    """Their own looks are drawn by lot, from so few that some benchmarks had two of the same."""
    own = {variant.name: style(variant.name, variant.params) for variant in load(file).merge.variants}
    looks = apart(own)
    assert len({str(look) for look in looks.values()}) == len(looks)
    by_lot = [name for name, look in own.items() if looks[name] != look]
    assert all("@" in name for name in by_lot) and len(by_lot) < 3


def test_every_metric_has_a_name_in_print() -> None:
    assert METRICS.keys() == {*get_args(Metric)}


def test_a_single_merge_is_not_called_all_of_them() -> None:
    assert every(6, "merge") == "all n = 6 merges" and every(1, "pair") == "the only pair"
