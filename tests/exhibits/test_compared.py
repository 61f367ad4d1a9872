"""Methods compared with each other: the numbers of the exhibits against the records they are of."""

import base64
import csv
import io
import json
import math
import re
import shutil
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from reading import drawing, merges
from scipy import stats
from worlds import as_variant, score

from remerge import exhibits
from remerge.errors import UserError
from remerge.exhibits.general.ranks import WIDTH, _scale
from remerge.report.figure import Figure
from remerge.report.make import printed
from remerge.report.run import Run
from remerge.variants import name_of


def rows(results: Path, name: str) -> dict[str, dict[str, str]]:
    text = exhibits.known()[name].build(Run(results)).csv()
    return {row["variant"]: row for row in csv.DictReader(io.StringIO(text))}


def anps(results: Path, variant: str) -> list[float]:
    return [line["anp"] for size in (2, 3, 4) for line in merges(results, variant, size)]


@pytest.fixture
def spoilt(world: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(world, tmp_path / "demo"))


def test_leads_are_of_the_records_and_every_pair_stands_in_the_csv(world: Path) -> None:
    table = rows(world, "comparisons")
    names = [variant.name for variant in Run(world).variants]
    best = "divmerge@divergence=js,level=layer"
    assert list(table) == names and table[best]["lead"] == ""
    p_values = []
    for first, second in combinations(names, 2):
        lead = np.mean(anps(world, first)) - np.mean(anps(world, second))
        row = table[first]
        assert float(row[f"lead over {second}"]) == pytest.approx(lead, abs=2e-4)
        assert float(row[f"low over {second}"]) <= lead <= float(row[f"high over {second}"])
        assert float(table[second][f"lead over {first}"]) == pytest.approx(-lead, abs=2e-4)
        assert row[f"holm over {second}"] == table[second][f"holm over {first}"]
        p_values.append((float(row[f"p over {second}"]), float(row[f"holm over {second}"])))
    smallest = min(p for p, _ in p_values)
    assert smallest == pytest.approx(2 / 10_001, rel=1e-3)  # none of the draws on the other side
    assert min(holm for _, holm in p_values) == pytest.approx(45 * smallest, rel=1e-3)
    row = table["average"]
    assert [row[key] for key in ("lead", "low", "high", "p", "holm")] == [
        row[f"{key} over {best}"] for key in ("lead", "low", "high", "p", "holm")
    ]


def test_an_interval_is_that_of_the_paired_examples_where_there_is_one_merge(world: Path) -> None:
    """Of the merge of all tasks nothing but examples is drawn: the delta method's standard error."""

    def bits(score: dict[str, Any]) -> np.ndarray:
        packed = np.frombuffer(base64.b64decode(score["outcomes"]), np.uint8)
        return np.unpackbits(packed)[: score["n"]].astype(float)

    figure = drawing(world, "differences")
    run = Run(world)
    assert [axes.get_title() for axes in figure.axes] == [
        "2 tasks\nn = 6",
        "3 tasks\nn = 4",
        "4 tasks\nn = 1",
    ]
    best = merges(world, "divmerge@divergence=js,level=layer", 4)[0]
    (line,) = merges(world, "average", 4)
    variance = 0.0
    for task in line["tasks"]:
        own = bits(json.loads((world / f"scores/{task}.json").read_text())["scores"][task])
        d = bits(line["scores"][task]) - bits(best["scores"][task])
        # d̄ / m of means over n examples: its influence is (d − (d̄/m) own) / m
        influence = (d - d.mean() / own.mean() * own) / own.mean()
        variance += (25**2) * influence.var() / len(d)
    shown = [container for container in figure.axes[2].containers]
    assert len(shown) == len(run.variants) - 1
    marker, _, (bar,) = shown[0]  # type: ignore[misc]
    low, high = bar.get_segments()[0][:, 0]
    assert marker.get_xdata()[0] == pytest.approx(line["anp"] - best["anp"], abs=1e-3)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.06)


def test_sizes_that_are_not_shown_are_told(world: Path, glue: Path) -> None:
    assert drawing(world, "differences").facts["shown"] == ""
    assert drawing(glue, "differences").facts["shown"] == ", at 4 of the 6 sizes"


def test_records_without_outcomes_or_with_others_are_refused(spoilt: Path) -> None:
    path = spoilt / "merges/average/3.jsonl"
    text = path.read_text()
    path.write_text(re.sub(r'"outcomes": "[^"]*"', '"outcomes": null', text, count=1))
    with pytest.raises(UserError, match=r"average/3\.jsonl has no outcomes of single examples: delete it"):
        drawing(spoilt, "differences")
    path.write_text(re.sub(r'"outcomes": "[^"]*"', '"outcomes": "AAAA"', text, count=1))
    with pytest.raises(UserError, match=r"average/3\.jsonl has outcomes that do not fit its scores"):
        rows(spoilt, "comparisons")
    path.write_text(text)
    scores = spoilt / "scores/rte.json"
    scores.write_text(re.sub(r', "outcomes": "[^"]*"', "", scores.read_text()))
    with pytest.raises(UserError, match=r"rte\.json has no outcomes"):
        drawing(spoilt, "differences")


def test_ranks_are_over_all_merges(world: Path) -> None:
    figure = drawing(world, "ranks")
    values = [anps(world, variant.name) for variant in Run(world).variants]
    means = stats.rankdata(-np.array(values), axis=0).mean(axis=1)
    written = [text.get_text() for text in figure.axes[0].texts]
    assert {f"{mean:.1f}" for mean in means} < {*written}
    assert {variant.label for variant in Run(world).variants} < {*written}
    assert figure.facts["methods"] == 10
    q = stats.studentized_range.ppf(0.95, 10, np.inf) / math.sqrt(2)
    assert figure.facts["critical"] == f"{q * math.sqrt(110 / 66):.2f}"
    assert "all n = 11 merges" in printed(exhibits.known()["ranks"], Run(world))["html"].decode()


def test_numbers_on_the_scale_of_ranks_do_not_touch() -> None:
    for last in range(3, 41):
        axes = Figure(WIDTH, 2).add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(2, 0)
        _scale(axes, last, 1.0)
        numbers = [text.get_window_extent() for text in axes.texts if text.get_text().isdigit()]
        assert len(numbers) > 2 or last == 3
        assert all(right.x0 - left.x1 > 0.01 * axes.figure.dpi for left, right in pairwise(numbers)), last


def test_a_method_of_pairs_alone_is_compared_on_pairs_and_has_no_rank(spoilt: Path) -> None:
    config = yaml.safe_load((spoilt / "config.yaml").read_text())
    config["merge"]["variants"][0] = {"name": "slerp", "method": "slerp", "params": {}}
    (spoilt / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    as_variant(spoilt, "average", "slerp")
    table = rows(spoilt, "comparisons")
    best = "divmerge@divergence=js,level=layer"
    leads = [
        a["anp"] - b["anp"] for a, b in zip(merges(spoilt, "slerp", 2), merges(spoilt, best, 2), strict=True)
    ]
    assert table["slerp"]["anp"] == ""
    assert float(table["slerp"]["lead"]) == pytest.approx(np.mean(leads), abs=1e-4)
    assert drawing(spoilt, "ranks").facts["methods"] == 9
    names = {
        text.get_text(): text.get_position()[1] for text in drawing(spoilt, "divmerge_figure2").axes[0].texts
    }
    assert {variant.label for variant in Run(spoilt).variants} < {*names} and all(
        map(math.isfinite, names.values())
    )
    (panel, *others) = drawing(spoilt, "differences").axes
    ends = [axes.containers[0][0].get_xdata()[0] for axes in (panel, *others)]  # type: ignore[index]
    assert ends[0] == pytest.approx(np.mean(leads), abs=1e-4) and all(map(math.isnan, ends[1:]))


def test_every_exhibit_is_made_of_one_merge_though_other_tasks_are_in_none(spoilt: Path) -> None:
    config = yaml.safe_load((spoilt / "config.yaml").read_text())
    config["plans"]["subsets"] |= {"sizes": [2], "at_most": 1}
    (spoilt / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    run = Run(spoilt)
    (subset,) = run.config.subsets(2)
    for file in spoilt.glob("merges/*/2.jsonl"):
        lines = merges(spoilt, file.parent.name, 2)
        file.write_text("".join(f"{json.dumps(x)}\n" for x in lines if x["tasks"] == [*subset]))
    for exhibit in exhibits.of(run.config).values():
        assert printed(exhibit, run)
    best = "divmerge@divergence=js,level=layer"
    (own,) = (line["anp"] for line in merges(spoilt, best, 2))
    assert float(rows(spoilt, "best")[best]["anp"]) == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize(("further", "higher"), [({}, 1.1), ({"epochs": 77, "learning_rate": 0.00125}, 1.3)])
@pytest.mark.parametrize("name", ["ranks", "differences"])
def test_rows_are_as_high_as_the_longest_name(
    spoilt: Path, name: str, further: dict[str, Any], higher: float
) -> None:
    """Of several lines, a name covered those above and below it."""
    before = drawing(spoilt, name).get_size_inches()[1]
    config = yaml.safe_load((spoilt / "config.yaml").read_text())
    params = {"level": "task", "divergence": "kl", "replaced": 0.25, "stand_ins": "other", **further}
    long = name_of("divmerge", params)
    as_variant(spoilt, "divmerge@divergence=kl,level=task", long)
    (old,) = [v for v in config["merge"]["variants"] if v["name"] == "divmerge@divergence=kl,level=task"]
    old |= {"name": long, "params": params}
    (spoilt / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert drawing(spoilt, name).get_size_inches()[1] > higher * before


def test_seeds_count_as_their_mean(spoilt: Path) -> None:
    path = spoilt / "merges/average/4.jsonl"
    (line,) = merges(spoilt, "average", 4)
    (other,) = merges(spoilt, "multi_slerp", 4)
    before = rows(spoilt, "comparisons")["average"]
    path.write_text(
        json.dumps(line)
        + "\n"
        + json.dumps(line | {"seed": 1, "scores": other["scores"], "anp": other["anp"]})
    )
    after = rows(spoilt, "comparisons")["average"]
    shift = (other["anp"] - line["anp"]) / 2 / 11
    assert float(after["anp"]) - float(before["anp"]) == pytest.approx(shift, abs=2e-4)


def test_the_objective_reached_is_a_task_s_mean_over_the_last_pass(world: Path) -> None:
    figure = drawing(world, "reached")
    titles = [axes.get_title().split("\n") for axes in figure.axes]
    assert [title[0] for title in titles] == ["AdaMerging", "DivMerge KL", "DivMerge JS"]
    points, left = [], []
    for level in ("task", "layer"):
        for size in (2, 3, 4):
            for line in merges(world, f"adamerging@level={level}", size):
                points.append((line["trace"][-1] / size, line["anp"], size))
    for size in (2, 3, 4):
        same = np.array([point[:2] for point in points if point[2] == size])
        left += [*(same - same.mean(axis=0))]
    drawn = [xy for line in figure.axes[0].lines for xy in zip(*line.get_data(), strict=True)]
    assert np.array(drawn) == pytest.approx(np.array(points)[:, :2])
    over_all = stats.spearmanr(*np.array(points)[:, :2].T).statistic
    within = stats.spearmanr(*np.array(left).T).statistic
    assert f"ρ = {over_all:.2f}".replace("-", "−") in titles[0][1]
    assert f"within {within:.2f}".replace("-", "−") in titles[0][1]
    assert titles[0][2] == "n = 22"


def test_the_last_pass_is_what_epochs_say(spoilt: Path) -> None:
    path = spoilt / "merges/adamerging@level=task/4.jsonl"
    (line,) = merges(spoilt, "adamerging@level=task", 4)
    line |= {"trace": [9.0] * 6 + [4.0, 8.0], "params": line["params"] | {"epochs": 4}}
    path.write_text(json.dumps(line) + "\n")
    drawn = drawing(spoilt, "reached").axes[0].lines[0].get_xdata()
    assert drawn[-1] == pytest.approx(6 / 4)  # type: ignore[index]


def test_what_validation_chooses_against_test(world: Path) -> None:
    exhibit = exhibits.known()["validation"]
    table = rows(world, "validation")
    assert len(table) == 6
    case = "cola+sst2"
    test, validation = {}, {}
    for name, row in table.items():
        record = json.loads((world / f"selection/{name}.json").read_text())
        validation[name] = max(point["mean"] for point in record["grid"])
        (test[name],) = (line["anp"] for line in merges(world, name, 2) if line["case"] == case)
        assert float(row["test"]) == pytest.approx(test[name], rel=1e-5)
        assert float(row["validation"]) == pytest.approx(validation[name], rel=1e-5)
        assert (row["tried"], row["known"], row["lost"]) == ("4", "1", "")
    text = printed(exhibit, Run(world))["md"].decode()
    chosen = max(validation, key=validation.__getitem__)
    assert chosen == max(test, key=test.__getitem__) == "divmerge@divergence=js,level=layer"
    assert f"validation chooses DivMerge JS (LL), which is the best on test, {test[chosen]:.2f}" in text
    rho = stats.spearmanr([validation[n] for n in table], [test[n] for n in table]).statistic
    assert f"over the methods: {rho:.2f}" in text


def test_other_points_of_a_grid_that_somebody_merged_are_known(spoilt: Path) -> None:
    """Task arithmetic, tuned beside scales that other variants merge: 0.4 was better on test than 0.5."""
    config = yaml.safe_load((spoilt / "config.yaml").read_text())
    variants = config["merge"]["variants"]
    tuned = {"scale": {"tune": [0.3, 0.4, 0.5]}}
    name = "task_arithmetic@tuned"
    variants.append({"name": name, "method": "task_arithmetic", "params": tuned})
    (spoilt / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (spoilt / f"merges/{name}").mkdir()
    for size in (2, 3, 4):
        lines = merges(spoilt, "task_arithmetic@scale=0.4", size)
        changed = [
            line | {"variant": name, "params": {"scale": 0.5}, "anp": line["anp"] - 3} for line in lines
        ]
        text = "".join(json.dumps(line) + "\n" for line in changed)
        (spoilt / f"merges/{name}/{size}.jsonl").write_text(text)
    points = [(0.3, 60.0), (0.4, 70.0), (0.5, 71.0)]
    grid = [{"params": {"scale": s}, "validation": {"cola+sst2": m}, "mean": m} for s, m in points]
    record = json.loads((spoilt / "selection/adamerging@level=task.json").read_text())
    record |= {"variant": name, "method": "task_arithmetic", "params": {"scale": 0.5}}
    record |= {"grid": grid, "chosen": {"scale": 0.5}}
    (spoilt / f"selection/{name}.json").write_text(json.dumps(record))
    row = rows(spoilt, "validation")[name]
    assert (row["tried"], row["known"]) == ("3", "2")
    assert float(row["lost"]) == pytest.approx(3)


def test_a_point_that_starts_at_the_share_of_a_task_is_known_too(spoilt: Path) -> None:
    """A record holds the start itself: of two tasks, 1/T is 0.5."""
    path = spoilt / "selection/adamerging@level=task.json"
    record = json.loads(path.read_text())
    points = [{"learning_rate": 0.003, "initial": initial} for initial in (0.5, "1/T")]
    grid = [{"params": point, "validation": {"cola+sst2": 70.0}, "mean": 70.0} for point in points]
    path.write_text(json.dumps(record | {"grid": grid, "chosen": points[0]}))
    row = rows(spoilt, "validation")["adamerging@level=task"]
    assert (row["tried"], row["known"], row["lost"]) == ("2", "2", "0")


def test_of_equal_test_scores_none_is_better_than_the_choice(spoilt: Path) -> None:
    for path in spoilt.glob("merges/*/2.jsonl"):
        lines = [json.loads(line) | {"anp": 80.0} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = printed(exhibits.known()["validation"], Run(spoilt))["md"].decode()
    assert "which is the best on test, 80.00" in text


def test_small_differences_have_a_scale_that_can_be_read(spoilt: Path) -> None:
    """Within five points the only tick was zero."""
    best = "divmerge@divergence=js,level=layer"
    for path in spoilt.glob("merges/*/*.jsonl"):
        lines = (spoilt / f"merges/{best}/{path.name}").read_text().splitlines()
        first = json.loads(path.read_text().splitlines()[0])
        mine = {key: first[key] for key in ("variant", "method", "params")}
        path.write_text("".join(json.dumps(json.loads(line) | mine) + "\n" for line in lines))
    path = spoilt / "merges/average/4.jsonl"
    line = json.loads(path.read_text())
    line["scores"] = {task: score(found["value"] - 0.01) for task, found in line["scores"].items()}
    path.write_text(json.dumps(line) + "\n")
    axes = drawing(spoilt, "differences").axes[0]
    assert len(axes.get_xticks()) > 2 and "0" in [label.get_text() for label in axes.get_xticklabels()]
