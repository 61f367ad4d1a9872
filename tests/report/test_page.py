import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from snakemake.cli import parse_args
from worlds import as_variant, make_world, score

from remerge import exhibits
from remerge.errors import UserError
from remerge.outcomes import pack_taken, unpack
from remerge.records import Cost
from remerge.report.examples import answered
from remerge.report.make import write
from remerge.report.page import context, write_report
from remerge.report.run import Run

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """Ids, links and the balance of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag in ("a", "use") else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def draw(results: Path) -> None:
    """What the rules of tables and figures do, then the page."""
    for name, exhibit in exhibits.of(Run(results).config).items():
        write(results, name, exhibit.kind)
    write_report(results)


def names(results: Path, kind: str) -> list[str]:
    return [name for name, exhibit in exhibits.of(Run(results).config).items() if exhibit.kind == kind]


@pytest.fixture(scope="module")
def drawn(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world with every exhibit and the page."""
    results = Path(shutil.copytree(world, tmp_path_factory.mktemp("page") / "demo"))
    draw(results)
    return results


@pytest.fixture(scope="module")
def page(drawn: Path) -> str:
    first = (drawn / "report.html").read_bytes()
    write_report(drawn)
    assert (drawn / "report.html").read_bytes() == first
    return first.decode()


def test_one_file_that_needs_no_network(page: str) -> None:
    assert not re.search(r'(src|srcset|data|action)\s*=\s*"', page)
    assert "@import" not in page and "<link" not in page
    assert re.findall("<script.*?>", page) == ["<script>"]
    assert not re.search(r"url\((?!#)", page)
    outside = re.findall(r"https?://[^\s\"'<]+", page)
    assert outside == []
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page


def test_a_row_leads_to_its_records(page: str, world: Path) -> None:
    outline = Outline()
    outline.feed(page)
    records = {link for link in outline.links if link.endswith((".json", ".jsonl"))}
    assert {"base.json", "scores/base.json", "experts/cola.json"} <= records
    assert any(link.startswith("merges/") for link in records)
    assert all((world / link).is_file() for link in records)
    ids = set(outline.ids)
    rows = set(re.findall('<tr[^>]* data-variant="([^"]*)"', page))
    variants = {variant.name for variant in Run(world).variants}
    assert rows & variants and all(f"of-{name}" in ids for name in variants)


def test_anchors_lead_somewhere(page: str, world: Path) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    inside = {link[1:] for link in outline.links if link.startswith("#")}
    assert inside <= set(outline.ids)
    assert {*exhibits.of(Run(world).config)} <= inside
    assert all(link.startswith(("#", "data:")) or (world / link).is_file() for link in outline.links)


def test_everything_is_on_it(page: str, world: Path) -> None:
    assert page.count("<svg ") == len(names(world, "figure"))
    for words in (
        "Seed 0",
        "DivMerge JS (LL)",
        "Unmerged base",
        "CoLA",
        "548,352",
        "4,500,000 tokens",
        "cola : {sentence}",
    ):
        assert words in page
    assert re.search(r"account for [\d.]+ points of the fall: most for [A-Z]", page)
    assert re.search(r"<th scope=\"row\">matplotlib</th><td class=\"n\">\d", page)
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower().split()


def test_a_task_with_the_name_of_a_variant_has_an_anchor_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make_world(tmp_path / "demo", tasks=["average", "cola", "rte"])
    monkeypatch.setattr("remerge.report.page._exhibit", lambda exhibit, run: {})
    monkeypatch.setattr("remerge.report.page.outcome", lambda run: {})
    anchors = [model["anchor"] for model in context(Run(results))["models"]]
    assert anchors == ["of-base", "expert-average", "expert-cola", "expert-rte", "of-multitask"]


def test_durations_are_sorted_by_their_seconds_and_the_total_stays_below(drawn: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drawn, tmp_path / "demo"))
    for job, seconds in (("experts/cola", 4000.0), ("data/cola", 0.3)):
        Cost(job=job, seconds=seconds, cpu=seconds, memory=1, gpu=0, passes=0).write(results, job=job)
    write_report(results)
    table = (results / "report.html").read_text().split('id="took"')[1].split("</table>")[0]
    assert '<td class="n" data-value="4000.0">1 h 6 min</td>' in table
    assert '<td class="n" data-value="0.3">300 ms</td>' in table
    assert "total" in table.split("<tfoot>")[1] and "total" not in table.split("<tfoot>")[0]


def test_the_dark_view_reaches_markers_too(page: str) -> None:
    """They are copies (`use`) in trees of their own, where a selector through an ancestor finds nothing."""
    assert '[style*="stroke: #24292f"] { stroke: var(--ink)' in page
    assert not re.search(r"[\w.] \[style", page)


def commands(page: str) -> list[list[str]]:
    """The commands that make what is on a page again, as words."""
    return [
        shlex.split(line)
        for line in re.findall(r"<code>((?:snakemake|remerge (?:run|demo)) .*? results/.*?)</code>", page)
    ]


def test_the_commands_on_it_name_their_targets(page: str, world: Path) -> None:
    parsed = [parse_args(command[1:])[1] for command in commands(page)]
    assert all([file.name for file in given.configfile] == ["demo.yaml"] for given in parsed)
    tables = {f"results/demo/tables/{name}.csv" for name in names(world, "table")}
    figures = {f"results/demo/figures/{name}.pdf" for name in names(world, "figure")}
    targets = {target for given in parsed for target in given.targets}
    assert targets == tables | figures | {"results/demo/report.html"}


@pytest.fixture(scope="module")
def drawn_glue(glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark with published numbers, with every exhibit and the page."""
    results = Path(shutil.copytree(glue, tmp_path_factory.mktemp("page") / "divmerge-glue"))
    draw(results)
    return results


def test_published_only_where_the_paper_ran_it(page: str, drawn_glue: Path) -> None:
    assert "paper</th>" not in page
    assert "paper</th>" in (drawn_glue / "report.html").read_text()


def test_the_page_shows_what_the_rules_wrote(drawn: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drawn, tmp_path / "demo"))
    piece = results / "tables/divmerge_table5.html"
    piece.write_text(piece.read_text().replace("Every expert", "As it was written"))
    write_report(results)
    assert "As it was written" in (results / "report.html").read_text()
    piece.unlink()
    with pytest.raises(UserError, match=r"divmerge_table5\.html is missing: run"):
        write_report(results)


def test_no_folder_of_this_machine_is_named_and_what_a_configuration_says_is_escaped(
    world: Path, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(world, tmp_path / "demo"))
    run, place = Run(results), "/home/somebody/a & b/base"
    path = results / "config.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["base"]["source"] = place
    raw["tasks"]["cola"]["expert"] = f"{place}/cola"
    raw["tasks"]["sst2"]["expert"] = "/tables"
    raw["tasks"]["cola"]["prompt"] = "<script>alert(1)</script>{sentence}"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    run.model("base").model_copy(update={"source": place}).write(results, model="base")
    draw(results)
    page = (results / "report.html").read_text()
    assert "somebody" not in page
    assert "…/base" in page and "…/cola" in page and "expert: …/tables\n" in page
    assert "results/demo/tables/best.csv" in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_run_without_multitask_model_heads_or_learned_methods(world: Path, tmp_path: Path) -> None:
    """What most users' own checkpoints are: existing experts, no labels in words, one size of subset."""
    results = Path(shutil.copytree(world, tmp_path / "own"))
    config = yaml.safe_load((results / "config.yaml").read_text())
    config["finetune"]["multitask"] = False
    config["merge"]["variants"] = config["merge"]["variants"][:4]
    config["plans"]["subsets"]["sizes"] = [4]
    config["base"]["family"] = "clip"
    for task in config["tasks"].values():
        task["prompt"], task["image"], task["captions"] = None, "image", ["a {answer}", "one {answer}"]
    (results / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (results / "scores/multitask.json").unlink()
    (results / "experts/multitask.json").unlink()
    for path in [*results.glob("scores/*.json"), *results.glob("merges/*/*.jsonl")]:
        path.write_text(re.sub(r'(restricted)": [0-9.]+', r'\1": null', path.read_text()))
    draw(results)
    page = (results / "report.html").read_text()
    assert "multitask" not in page.split('<h2 id="run"')[0].lower()
    data = page.split("<h3>Data</h3>")[1].split("<h3>Models</h3>")[0]
    assert "<code>a {answer}, … (2 captions)</code>" in data
    assert "prompt" not in data.lower() and "token" not in data
    assert 'id="divmerge_table3"' in page
    assert 'id="labels"' not in page and 'id="selection"' not in page
    table = (results / "tables/divmerge_table3.csv").read_text()
    assert "multitask" not in table


def test_experts_below_their_published_scores_are_warned_of(drawn_glue: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(drawn_glue, tmp_path / "divmerge-glue"))
    for task, value in (("cola", 0.8221), ("sst2", 0.5)):
        path = results / f"scores/{task}.json"
        record = json.loads(path.read_text())
        record["scores"][task] = score(value)
        path.write_text(json.dumps(record))
    write_report(results)
    text = (results / "report.html").read_text()
    warned = re.sub(r"\s+", " ", text[text.index("Experts below") : text.index("another prompt")])
    assert "SST-2 50.0 (published" in warned
    assert "CoLA" not in warned


def test_test_examples_that_were_trained_on_are_warned_of_in_the_first_lines(
    drawn: Path, tmp_path: Path, page: str
) -> None:
    assert "are also in train" not in page and "No input appears twice" in page
    results = Path(shutil.copytree(drawn, tmp_path / "demo"))
    path = results / "data/cola.json"
    record = json.loads(path.read_text())
    record["dropped"] = 2
    record["splits"]["test"] |= {"seen": 20, "lacking": ["<b>"]}
    path.write_text(json.dumps(record))
    write_report(results)
    text = (results / "report.html").read_text()
    first = re.sub(r"\s+", " ", text[: text.index('id="results"')])
    assert "are also in train or validation:</b> CoLA 20 of 500." in first
    assert "2 examples with missing values left out; 20 of 500 test examples also occur in" in text
    assert "has the label &lt;b&gt;" in text


def test_single_examples_are_on_the_page_where_their_texts_are_at_hand(
    drawn: Path, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'id="examples"' not in page  # this run has no data
    results = Path(shutil.copytree(drawn, tmp_path / "demo"))
    n = Run(results).own["cola"].n
    for task in Run(results).tasks:
        rows = [{"sentence": f"</script> {k} " + 300 * "x", "label": 0} for k in range(n)]
        (results / "data" / task).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), results / "data" / task / "test.parquet")
    write_report(results)
    text = (results / "report.html").read_text()
    assert re.findall("<script.*?>", text) == [
        "<script>",
        '<script type="application/json" id="answered">',
        '<script type="module">',
    ]
    config = (results / "config.yaml").read_text()
    told = json.loads(text.split('id="answered">')[1].split("</script>")[0])
    known = told["tasks"]["cola"]
    assert known["inputs"][3].startswith("cola : </script> 3 x") and len(known["inputs"][3]) == 241
    assert len(told["merges"]) == len(Run(results).merged)
    place, case, anp, kept, _ = told["merges"][0]
    run = Run(results)
    merge = run.merges(run.variants[place].name, 2)[0]
    assert (merge.case, merge.anp) == (case, anp)
    assert unpack(kept["cola"], "accuracy", n).tolist() == run.outcomes("average", merge)["cola"].tolist()
    assert known["answers"][0] == run.config.tasks["cola"].answers[0]
    raw = yaml.safe_load(config)
    # Of two judged by ROUGE, nothing is right or wrong in their merge; a choice is.
    for task, metric in {"mrpc": "rougeL", "rte": "rougeL", "cola": "choice"}.items():
        path = results / f"scores/{task}.json"
        path.write_text(path.read_text().replace('"accuracy"', f'"{metric}"'))
        raw["tasks"][task]["metric"] = metric
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    told = json.loads(str(answered(Run(results))))
    assert all(kept for *_, kept, _ in told["merges"])
    assert told["tasks"]["cola"] == {**known, "options": [["no", "yes"]] * n}
    assert not {"mrpc", "rte"} & {*told["tasks"]}
    assert len(told["merges"]) == len(Run(results).merged) - len(told["methods"])
    # Of the wrong examples, the first took nothing, the others took what is not gold.
    wrong = np.flatnonzero(Run(results).unmerged_outcomes("cola", "cola") == 0).tolist()
    path = results / "scores/cola.json"
    record = json.loads(path.read_text())
    taken = [2 if k == wrong[0] else int(k in wrong) for k in range(n)]
    record["scores"]["cola"]["taken"] = pack_taken(taken, 2)
    path.write_text(json.dumps(record))
    told = json.loads(str(answered(Run(results))))
    assert told["tasks"]["cola"]["wrong"] == [2, *[1] * (len(wrong) - 1)] and known["wrong"] is None
    (results / "config.yaml").write_text(config)
    monkeypatch.setattr("remerge.report.examples.LARGEST", 100)
    write_report(results)
    assert 'id="examples"' not in (results / "report.html").read_text()


def test_the_first_screen_says_which_is_best_and_how_sure_that_is(page: str, world: Path) -> None:
    first = re.sub(r"\s+", " ", page[page.index('class="tiles"') : page.index('id="results"')])
    means = Run(world).merged.groupby("variant").anp.mean()
    assert f"<b>{means.max():.1f}</b><span>ANP of DivMerge JS (LL), the best of 10 methods" in first
    for words in (
        "the next best method <i>(95%: ",
        "points against the unmerged base <i>",
        "points against the best single expert",
    ):
        assert words in first, words
    assert "corrected for all 45 pairs of methods" in first
    assert "score of the task's own expert. " in first
    assert "to learn its coefficients" in first
    assert page.index('id="best"') < page.index('id="divmerge_figure2"') < page.index('id="divmerge_table2"')
    assert page.index('id="divmerge_table2"') < page.index('id="divmerge_figure3"')


@pytest.mark.parametrize(("low", "said"), [(0.5, True), (-0.5, False)])
def test_an_interval_without_zero_is_explained_where_the_corrected_test_finds_nothing(
    drawn: Path, tmp_path: Path, low: float, said: bool
) -> None:
    results = Path(shutil.copytree(drawn, tmp_path / "demo"))
    for name, key, value in (("best", "low", low), ("comparisons", "holm", 0.2)):
        table = pd.read_csv(results / f"tables/{name}.csv")
        table[key] = value
        table.to_csv(results / f"tables/{name}.csv", index=False)
    write_report(results)
    first = (results / "report.html").read_text().split('id="results"')[0]
    assert "cannot be distinguished</b>" in first
    assert ("The interval above does not contain zero because it is not corrected" in first) == said


def test_methods_are_counted_by_what_they_merge(tmp_path: Path) -> None:
    """SLERP merges pairs alone: it makes fewer merges than averaging, and cannot be the best of all."""
    results = make_world(tmp_path / "demo", paper=None)
    raw = yaml.safe_load((results / "config.yaml").read_text())
    raw["merge"] = {"variants": ["average", "slerp"]}
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    as_variant(results, "average", "slerp")
    draw(results)
    page = re.sub(r"\s+", " ", (results / "report.html").read_text())
    assert "<p>17 merges by 2 methods, of 6 + 4 + 1 = 11 subsets of 4 tasks. Seed 0.</p>" in page
    assert "ANP of Model averaging, the only method that makes all merges: the mean over all 11" in page
    table = (results / "tables/seconds.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in table] == [["variant", "n"], ["average", "11"], ["slerp", "6"]]
    assert "| Method | Merges |" in (results / "tables/seconds.md").read_text()


def test_what_another_tool_merged_is_loaded(tmp_path: Path) -> None:
    results = make_world(tmp_path / "demo", paper=None)
    raw = yaml.safe_load((results / "config.yaml").read_text())
    raw |= {"merge": {"variants": ["average", "mine"]}, "rules": ["mine.smk"]}
    (results / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    as_variant(results, "divmerge@divergence=js,level=layer", "mine")
    draw(results)
    page = re.sub(r"\s+", " ", (results / "report.html").read_text())
    assert "Loading a merge by mine took" in page
    assert (
        "only loaded here: how long it took to make is unknown" in (results / "tables/seconds.md").read_text()
    )
