import csv
import io
import json
import re
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from reading import merges
from scipy import stats
from worlds import as_benchmark, as_variant

from remerge import exhibits
from remerge.config import load
from remerge.errors import UserError
from remerge.exhibits._published import Published
from remerge.exhibits._rows import best
from remerge.report.make import printed, write
from remerge.report.run import Run
from remerge.report.table import Column, Table
from remerge.sources import EXHIBITS

LL = "divmerge@divergence=js,level=layer"


def build(results: Path, name: str) -> Table:
    table = exhibits.known()[name].build(Run(results))
    assert isinstance(table, Table)
    return table


def rows(results: Path, name: str, key: str) -> dict[str, dict[str, str]]:
    """The table's csv as it is written, by one of its columns."""
    text = build(results, name).csv()
    return {row[key]: row for row in csv.DictReader(io.StringIO(text))}


def value(results: Path, model: str, task: str, key: str = "value") -> float:
    return float(json.loads((results / f"scores/{model}.json").read_text())["scores"][task][key])


def test_a_mean_over_tasks_is_of_all_of_them_or_none(own: Path, tmp_path: Path) -> None:
    """The unmerged models are averaged over every task: a mean over fewer would not stand beside theirs."""
    results = Path(shutil.copytree(own, tmp_path / "own"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    raw["plans"]["subsets"] = {"only": ["cola+rte"]}
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for path in results.glob("merges/*/2.jsonl"):
        path.write_text("".join(line for line in path.open() if '"case": "cola+rte"' in line))
    table = rows(results, "tasks", "variant")
    assert table["average"]["cola"] and table["average"]["sst2"] == table["average"]["average"] == ""
    assert table["base"]["average"]


def test_table2_against_scipy_with_a_tie(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    path = results / "scores/sst2.json"
    record = json.loads(path.read_text())
    record["scores"]["cola"]["value"] = value(results, "rte", "cola")
    path.write_text(json.dumps(record))
    table = {row["task"]: row for row in over(results, "experts")}
    tasks = ["cola", "sst2", "mrpc", "rte"]
    expected = {}
    for task in tasks:
        found = [json.loads((results / f"divergences/{m}.json").read_text()) for m in tasks]
        kl = [record["divergences"][task]["kl"] for record in found]
        accuracy = [value(results, model, task) for model in tasks]
        expected[task] = -float(stats.spearmanr(kl, accuracy).statistic)
        assert float(table[task]["kl"]) == pytest.approx(expected[task], abs=1e-5)
        assert float(table[task]["kl_pearson"]) == pytest.approx(-np.corrcoef(kl, accuracy)[0, 1], abs=1e-5)
    assert float(table["average"]["kl"]) == pytest.approx(np.mean([*expected.values()]), abs=1e-5)
    assert float(table["cola"]["kl"]) not in (0.8, 1.0)  # the tie is in it


def test_table2_by_rows_is_over_the_tasks_of_an_expert(world: Path) -> None:
    tasks = ["cola", "sst2", "mrpc", "rte"]
    found = {row["task"]: row for row in over(world, "tasks")}
    record = json.loads((world / "divergences/mrpc.json").read_text())
    js = [record["divergences"][task]["js"] for task in tasks]
    accuracy = [value(world, "mrpc", task) for task in tasks]
    assert float(found["mrpc"]["js"]) == pytest.approx(-stats.spearmanr(js, accuracy).statistic, abs=1e-5)
    assert float(found["mrpc"]["js_pearson"]) == pytest.approx(-np.corrcoef(js, accuracy)[0, 1], abs=1e-5)


def over(results: Path, what: str) -> list[dict[str, str]]:
    """The rows of Table 2 over the experts of a task, or over the tasks of an expert."""
    table = csv.DictReader(io.StringIO(build(results, "divmerge_table2").csv()))
    return [row for row in table if row["over"] == what]


def test_table4_is_the_half_width_of_table3(world: Path) -> None:
    pairs, spread = rows(world, "divmerge_table3", "variant"), rows(world, "divmerge_table4", "variant")
    assert [row["2"] for row in spread.values()] == [row["half_width"] for row in pairs.values()]
    three = [merge["anp"] for merge in merges(world, LL, 3)]
    half = stats.t.ppf(0.975, 3) * np.std(three, ddof=1) / np.sqrt(4)
    assert float(spread[LL]["3"]) == pytest.approx(half, rel=1e-5)


def test_table3_against_the_t_interval(world: Path) -> None:
    table = rows(world, "divmerge_table3", "variant")
    for variant in ("average", LL):
        values = [
            100 * np.mean([s["value"] / value(world, t, t) for t, s in merge["scores"].items()])
            for merge in merges(world, variant, 2)
        ]
        half = stats.t.ppf(0.975, 5) * np.std(values, ddof=1) / np.sqrt(6)
        assert float(table[variant]["anp"]) == pytest.approx(np.mean(values), rel=1e-5)
        assert float(table[variant]["half_width"]) == pytest.approx(half, rel=1e-5)
        assert table[variant]["n"] == "6"
    names = [*table]
    assert (names[0], names[-1]) == ("base", "multitask")
    assert "paper" not in table["base"]


def test_table5_is_every_model_on_every_task(world: Path) -> None:
    table = rows(world, "divmerge_table5", "model")
    assert list(table) == ["cola", "sst2", "mrpc", "rte", "base", "multitask"]
    for model, row in table.items():
        for task in ("cola", "sst2", "mrpc", "rte"):
            assert float(row[task]) == pytest.approx(100 * value(world, model, task), rel=1e-5)


def test_table8_has_the_paper_s_words_and_numbers_of_test_examples(glue: Path, world: Path) -> None:
    table = rows(glue, "divmerge_table8", "task")
    assert table["qqp"]["description"] == "detection of equivalence between questions"
    assert {task: row["n_paper"] for task, row in table.items() if row["n_paper"] != "500"} == {
        "rte": "277",
        "mrpc": "400",
    }
    assert (table["cola"]["prompt"], table["sst2"]["prompt"]) == ("another", "our choice")
    assert "Description" not in build(world, "divmerge_table8").markdown("", "")
    assert (
        build(glue, "divmerge_table8").facts["beside"] and not build(world, "divmerge_table8").facts["beside"]
    )
    ours = load(Path(__file__).parents[2] / "config/divmerge-glue.yaml").tasks["cola"].prompt
    assert Published(EXHIBITS / "divmerge/table8.csv", "divmerge-glue").text("CoLA", "Prompt") == ours


def test_table9_says_where_settings_differ_and_where_the_paper_is_silent(glue: Path) -> None:
    table = build(glue, "divmerge_table9").frame
    found = {(row["of"], row["setting"]): row for row in table.to_dict("records")}
    assert len(found) == len(table)
    rate = found["DivMerge (TL)", "learning rate"]
    assert (rate["ours"], rate["paper"], rate["remark"]) == ("0.003", "lost", "our choice")
    assert found["DivMerge (TL)", "inputs of a task"]["remark"] == ""
    assert found["DivMerge (LL)", "inputs of a task"]["remark"] == "differs"
    assert found["DivMerge (TL)", "initial coefficient"]["ours"].startswith("0.5, 0.3333, 0.25")
    assert found["DivMerge (TL)", "initial coefficient"]["remark"] == "differs"
    assert found["AdaMerging (TL)", "epochs"]["paper"] == "5"
    assert found["TIES", "density"]["remark"] == ""
    assert found["Base", "model"]["remark"] == "differs"
    silent = found["Task arithmetic", "scale"]
    assert (silent["paper"], silent["remark"]) == ("–", "our choice")
    # Section 2: "the uniform average".
    published = Published(EXHIBITS / "divmerge/table9.csv", "divmerge-glue")
    assert published.text("Model averaging", "weights") == "1/T"
    loss = {name: found[f"{name} (LL)", "loss of an answer"] for name in ("AdaMerging", "DivMerge")}
    assert {name: row["paper"] for name, row in loss.items()} == {"AdaMerging": "–", "DivMerge": "lost"}
    assert {row["remark"] for row in loss.values()} == {"our choice"}


def test_table9_has_every_loss_of_an_answer(world: Path, tmp_path: Path) -> None:
    """Also of a variant by its own name."""
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    raw, name = yaml.safe_load((results / "config.yaml").read_text()), "divmerge@answer=sum,level=layer"
    params = {"level": "layer", "answer": "sum"}
    raw["merge"]["variants"].append({"name": name, "method": "divmerge", "params": params})
    (results / "config.yaml").write_text(yaml.safe_dump(raw))
    as_variant(results, LL, name)
    for path in results.glob(f"merges/{name}/*.jsonl"):
        path.write_text(path.read_text().replace('"params": {', '"params": {"answer": "sum", '))
    table = build(results, "divmerge_table9").frame
    found = {(row["of"], row["setting"]): row["ours"] for row in table.to_dict("records")}
    assert found["DivMerge (LL)", "loss of an answer"] == "mean over its tokens, sum over its tokens"


def test_table6_by_size(world: Path) -> None:
    table = rows(world, "divmerge_table6", "variant")
    means = [np.mean([merge["anp"] for merge in merges(world, LL, size)]) for size in (2, 3, 4)]
    row = table[LL]
    assert [float(row[str(size)]) for size in (2, 3, 4)] == pytest.approx(means, rel=1e-5)
    assert float(row["average"]) == pytest.approx(np.mean(means), rel=1e-5)
    ratio = {t: value(world, "base", t) / value(world, t, t) for t in ("cola", "mrpc", "rte", "sst2")}
    base = np.mean([np.mean([ratio[t] for t in pair]) for pair in combinations(ratio, 2)])
    assert float(table["base"]["2"]) == pytest.approx(100 * base, rel=1e-5)
    assert {"base", "multitask", "average", "ties@density=0.2,scale=1.0"} <= set(table)


def test_drm_table12_is_each_task_under_the_merge_of_all(drm: Path) -> None:
    table = rows(drm, "drm_table12", "variant")
    (merge,) = merges(drm, LL, 6)
    for task, found in merge["scores"].items():
        assert float(table[LL][task]) == pytest.approx(100 * found["value"], rel=1e-5)
        assert float(table["experts"][task]) == pytest.approx(100 * value(drm, task, task), rel=1e-5)
        assert float(table["base"][task]) == pytest.approx(100 * value(drm, "base", task), rel=1e-5)
    mean = 100 * np.mean([found["value"] for found in merge["scores"].values()])
    assert float(table[LL]["average"]) == pytest.approx(mean, rel=1e-5)
    assert table["average"]["qasc_paper"] == "54.8" and table["experts"]["qasc_paper"] == "99.5"
    assert table["ties"]["average_paper"] == "71.8"
    assert table[LL]["average_paper"] == ""
    text = printed(exhibits.known()["drm_table12"], Run(drm))["md"].decode()
    assert "under the merge of all tasks" in text and "T5-Base; the base here is t5-base" in text


def test_tasks_are_means_where_merges_hold_fewer(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    config = results / "config.yaml"
    config.write_text(config.read_text().replace("sizes: null", "sizes: [2]"))
    row = rows(results, "tasks", "variant")["average"]
    held = [m["scores"]["rte"]["value"] for m in merges(world, "average", 2) if "rte" in m["tasks"]]
    assert len(held) == 3
    assert float(row["rte"]) == pytest.approx(100 * np.mean(held), rel=1e-5)


def test_labels_are_the_two_means_and_their_gap(world: Path) -> None:
    row = rows(world, "labels", "variant")["average"]
    found = merges(world, "average", 3)
    strict = np.mean([merge["anp"] for merge in found])
    loose = np.mean([merge["anp_restricted"] for merge in found])
    assert float(row["3_strict"]) == pytest.approx(strict, rel=1e-5)
    assert float(row["3_restricted"]) == pytest.approx(loose, rel=1e-5)
    assert float(row["3_gap"]) == pytest.approx(loose - strict, rel=1e-4)


def test_only_methods_that_make_the_largest_merges_lose_most_or_least_there(
    world: Path, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    raw["merge"]["variants"][0] = {"name": "slerp", "method": "slerp", "params": {}}
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    as_variant(results, "average", "slerp")
    facts = build(results, "labels").facts
    gaps = [float(row["4_gap"]) for row in rows(results, "labels", "variant").values() if row["4_gap"]]
    merged = gaps[1:-1]  # between the base and the multitask model
    assert facts["methods"] == len(merged) == 9
    assert f"({max(merged):.1f})" in facts["most"] and f"({min(merged):.1f})" in facts["least"]


def test_the_best_are_those_printed_as_the_best() -> None:
    rows = [{"variant": name, "x": x} for name, x in zip("abc", (74.62, 74.64, 74.4), strict=True)]
    assert best(rows, [Column("x", "x", digits=1)], ["x"]) == {(0, "x"), (1, "x")}
    assert best(rows, [Column("x", "x", digits=2)], ["x"]) == {(1, "x")}


@pytest.mark.parametrize("which", ["world", "drm"])
@pytest.mark.parametrize("kept", [["average"], ["drm_h", "multi_slerp", "adamerging@level=task"]])
def test_an_exhibit_takes_no_variant_for_one_that_makes_all_merges(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, kept: list[str]
) -> None:
    results = Path(shutil.copytree(request.getfixturevalue(which), tmp_path / "demo"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    known = {variant["name"] for variant in raw["merge"]["variants"]}
    raw["plans"]["subsets"]["variants"] = [name for name in kept if name in known]
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    run = Run(results)
    for exhibit in exhibits.of(run.config).values():
        exhibit.build(run)


def test_tasks_without_labels_have_no_restricted_score(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    for path in [*results.glob("scores/*.json"), *results.glob("merges/*/*.jsonl")]:
        text = re.sub(r'"(anp_)?restricted": [\d.]+', r'"\1restricted": null', path.read_text())
        path.write_text(text)
    assert rows(results, "labels", "variant")["average"]["2_restricted"] == ""
    assert "| – |" in build(results, "labels").markdown("", "")


def test_selection_holds_the_grid_and_the_choice(world: Path) -> None:
    table = build(world, "selection")
    assert len(table.frame) == 6 * 4
    for variant, points in table.frame.groupby("variant"):
        record = json.loads((world / f"selection/{variant}.json").read_text())
        assert points["mean"].tolist() == [point["mean"] for point in record["grid"]]
        (chosen,) = [k for k, point in enumerate(record["grid"]) if point["params"] == record["chosen"]]
        assert (points.index[chosen], "mean") in table.bold
    assert len(table.bold) == 2 * 6


def test_of_long_grids_the_selection_holds_the_best(drm: Path) -> None:
    table = build(drm, "selection").frame
    grid = json.loads((drm / "selection/ties@tuned.json").read_text())["grid"]
    assert len(grid) == 12
    shown = table.loc[table["variant"] == "ties@tuned", "mean"].tolist()
    best = sorted((point["mean"] for point in grid), reverse=True)[:8]
    assert shown == [point["mean"] for point in grid if point["mean"] in best]


def test_seconds_are_means_over_all_merges(world: Path) -> None:
    row = rows(world, "seconds", "variant")[LL]
    found = [merge["seconds"] for size in (2, 3, 4) for merge in merges(world, LL, size)]
    for part in ("merge", "fit", "evaluate"):
        assert float(row[part]) == pytest.approx(np.mean([s[part] for s in found]), rel=1e-5)
    assert float(row["total"]) == pytest.approx(np.mean([sum(s.values()) for s in found]), rel=1e-5)


def test_published_numbers_stand_beside_ours(glue: Path) -> None:
    pairs = rows(glue, "divmerge_table3", "variant")
    assert (pairs[LL]["paper"], pairs[LL]["paper_half_width"]) == ("99.18", "0.51")
    assert pairs["base"]["paper"] == pairs["task_arithmetic@scale=0.4"]["paper"] == ""
    for what in ("experts", "tasks"):
        correlations = {row["task"]: row for row in over(glue, what)}
        assert correlations["mnli"]["js_paper"] == "0.99"
        assert correlations["average"]["kl_paper"] == "0.773"
    assert rows(glue, "divmerge_table5", "model")["rte"]["qnli_paper"] == "50.2"
    scaling = rows(glue, "divmerge_table6", "variant")
    assert scaling["adamerging@level=task"]["7_paper"] == "67.26"
    assert scaling["average"]["average_paper"] == "72.75"
    assert "99.18 ± 0.51" in build(glue, "divmerge_table3").markdown("", "")


@pytest.mark.parametrize("name", ["divmerge_table2", "divmerge_table3"])
def test_what_is_odd_about_published_numbers_is_said_where_they_stand(
    glue: Path, world: Path, name: str
) -> None:
    said = [
        exhibits.known()[name].text({**Run(results).facts, **build(results, name).facts})[1]
        for results in (glue, world)
    ]
    assert ["symbols" in caption for caption in said] == [True, False]
    assert [caption.count("disagree") for caption in said] == [name == "divmerge_table3", 0]


@pytest.mark.parametrize("which", ["glue", "drm", "own"])
def test_written_whole_and_the_same_twice(request: pytest.FixtureRequest, tmp_path: Path, which: str) -> None:
    world = request.getfixturevalue(which)
    results = Path(shutil.copytree(world, tmp_path / world.name))
    for name, exhibit in exhibits.of(Run(results).config).items():
        if exhibit.kind == "table":
            check_whole(results, name)


def check_whole(results: Path, name: str) -> None:
    write(results, name, "table")
    files = {f: (results / f"tables/{name}.{f}").read_bytes() for f in ("csv", "md", "tex", "html")}
    write(results, name, "table")
    assert files == {f: (results / f"tables/{name}.{f}").read_bytes() for f in files}
    frame = pd.read_csv(io.BytesIO(files["csv"]))
    table = build(results, name)
    assert list(frame.columns) == list(table.frame.columns) and len(frame) == len(table.frame)
    pipes = {line.count(" | ") for line in files["md"].decode().splitlines() if line[:1] == "|"}
    assert pipes == {len(table.columns) - 1}
    check_latex(files["tex"].decode(), len(table.columns))


def check_latex(text: str, width: int) -> None:
    for mark in (r"\toprule", r"\bottomrule", r"\begin{tabular}", r"\end{tabular}", r"\label{tab:"):
        assert text.count(mark) == 1
    text = text.split("\n", 1)[1]  # the first line is a comment
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    for line in body.splitlines():
        if line.endswith(r"\\"):
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn{(\d+)}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == width, line
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert not re.search(r"(?<!\\)[%#]", text)
    assert not re.search(r"(?<!\\)_", re.sub(r"\\label{[^}]*}", "", text))
    assert text.isascii()


def test_an_unknown_table(world: Path) -> None:
    with pytest.raises(UserError, match="unknown table 'divmerge_table10' of demo, known: divmerge_table2"):
        write(world, "divmerge_table10", "table")


def test_several_seeds_have_a_mean_and_a_spread(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    config = yaml.safe_load((results / "config.yaml").read_text())
    first = config["merge"]["variants"][0].pop("name")
    config["merge"]["variants"][0]["seeds"] = 2
    (results / "config.yaml").write_text(yaml.safe_dump(config))
    name = Run(results).config.merge.variants[0].name
    as_variant(results, first, name)
    expected = {}
    for size in (2, 3, 4):
        path = results / f"merges/{name}/{size}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        again = [line | {"seed": 1, "anp": line["anp"] + 3} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines + again))
        mean = np.mean([line["anp"] for line in lines])
        expected[size] = (mean + 1.5, 3 / np.sqrt(2))
    (row,) = rows(results, "seeds", "variant").values()
    for size, (mean, spread) in expected.items():
        assert float(row[f"{size}"]) == pytest.approx(mean, rel=1e-5)
        assert float(row[f"{size}_spread"]) == pytest.approx(spread, rel=1e-5)


def test_sign_agreement_stands_beside_the_papers(drm: Path, tmp_path: Path) -> None:
    table = rows(drm, "drm_table4", "space")
    assert list(table) == [
        "unpruned",
        "original",
        "horizontal",
        "horizontal_back",
        "vertical",
        "vertical_back",
    ]
    tally = np.array(json.loads((drm / "weights.json").read_text())["signs"]["horizontal"])
    left = np.add.outer(range(7), range(7))
    most = np.maximum.outer(range(7), range(7))
    held = tally.sum() - tally[0, 0]
    row = table["horizontal"]
    expected = 100 * (tally * most / np.maximum(left, 1)).sum() / held
    assert float(row["agreement"]) == pytest.approx(expected, rel=1e-5)
    assert float(row["left"]) == pytest.approx((tally * left).sum() / held, rel=1e-5)
    assert float(row["lot"]) == pytest.approx(float(row["agreement"]), abs=1)  # they were drawn by lot
    assert "paper" not in build(drm, "drm_table4").html()

    results = Path(shutil.copytree(drm, tmp_path / "drm"))
    as_benchmark(results, "drm-llama-lora")
    config = (results / "config.yaml").read_text().replace("drm-t5-base", "drm-llama-lora")
    (results / "config.yaml").write_text(config)
    found = rows(results, "drm_table4", "space")
    assert [row["paper"] for row in found.values()] == ["", "91", "89.7", "70.6", "89.9", "70.2"]


def test_points_without_a_merit_are_counted_in_the_caption(drm: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drm, tmp_path / "drm-t5-base"))
    exhibit = exhibits.known()["selection"]
    assert "diverged" not in printed(exhibit, Run(results))["md"].decode()
    path = results / "selection/ties@tuned.json"
    record = json.loads(path.read_text()) | {"diverged": [{"density": 0.1, "scale": 9.0}]}
    path.write_text(json.dumps(record))
    text = printed(exhibit, Run(results))["md"].decode()
    assert "Points at which a merge diverged have no merit: 1 of TIES (tuned)." in text


@pytest.mark.parametrize("family", ["causal_lm", "classifier"])
def test_only_answers_in_words_are_called_greedy(own: Path, tmp_path: Path, family: str) -> None:
    results = Path(shutil.copytree(own, tmp_path / "own"))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    raw["base"]["family"] = family
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    text = printed(exhibits.known()["experts"], Run(results))["md"].decode()
    assert ("whole greedy answer" in text) == (family == "causal_lm")


def test_choices_are_right_or_wrong_and_not_greedy(world: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    for path in [*results.glob("scores/*.json"), *results.glob("merges/*/*.jsonl")]:
        path.write_text(path.read_text().replace('"accuracy"', '"choice"'))
    raw = yaml.safe_load((results / "config.yaml").read_text())
    for task in raw["tasks"].values():
        task["metric"] = "choice"
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    before, run = Run(world), Run(results)
    assert {*exhibits.of(before.config)} - {*exhibits.of(run.config)} == {"labels"}
    assert build(results, "divmerge_table6").csv() == build(world, "divmerge_table6").csv()
    text = printed(exhibits.known()["divmerge_table5"], run)["md"].decode()
    assert "Test choice accuracy in %" in text and "greedy" not in text
