import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from worlds import as_variant

from remerge import exhibits
from remerge.benchmark import Benchmark
from remerge.errors import UserError
from remerge.report.make import printed
from remerge.report.run import Run


@pytest.fixture
def broken(world: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(world, tmp_path / "demo"))


def test_what_a_run_holds(world: Path) -> None:
    run = Run(world)
    assert run.benchmark == "demo"
    assert run.tasks == ["cola", "sst2", "mrpc", "rte"]
    assert run.sizes == [2, 3, 4]
    assert [v.name for v in run.variants][3] == "ties@density=0.2,scale=1.0"
    assert len(run.merged) == 10 * 11
    assert len(run.anp) == 12 * 11


def test_the_base_is_scored_on_the_same_subsets(world: Path) -> None:
    def value(model: str, task: str) -> float:
        record = json.loads((world / f"scores/{model}.json").read_text())
        return float(record["scores"][task]["value"])

    expected = [
        100 * sum(value("base", task) / value(task, task) for task in subset) / 3
        for subset in (
            ("cola", "mrpc", "rte"),
            ("cola", "mrpc", "sst2"),
            ("cola", "rte", "sst2"),
            ("mrpc", "rte", "sst2"),
        )
    ]
    assert Run(world).anp_of("base", 3) == pytest.approx(expected)


def test_divergence_is_model_by_task(world: Path) -> None:
    record = json.loads((world / "divergences/mrpc.json").read_text())
    frame = Run(world).divergence("js")
    assert frame["rte"]["mrpc"] == record["divergences"]["rte"]["js"]


@pytest.mark.parametrize(
    ("missing", "table"),
    [
        ("scores/multitask.json", "divmerge_table5"),
        ("scores/rte.json", "divmerge_table3"),
        ("divergences/rte.json", "divmerge_table2"),
        ("merges/ties@density=0.2,scale=1.0/3.jsonl", "divmerge_table6"),
        ("selection/adamerging@level=layer.json", "selection"),
        ("base.json", "seconds"),
    ],
)
def test_a_missing_file_is_named(broken: Path, missing: str, table: str) -> None:
    (broken / missing).unlink()
    with pytest.raises(UserError, match="is missing") as caught:
        exhibits.known()[table].build(Run(broken))
    assert str(broken / missing) in str(caught.value)


def test_a_folder_of_no_run_is_named(broken: Path) -> None:
    (broken / "config.yaml").unlink()
    with pytest.raises(UserError, match=rf"^{re.escape(str(broken))}: not the folder of a run"):
        exhibits.known()["seconds"].build(Run(broken))


def test_a_half_written_size_is_named(broken: Path) -> None:
    path = broken / "merges/average/2.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match=r"average/2\.jsonl has no merge of rte\+sst2"):
        _ = Run(broken).merged
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    with pytest.raises(UserError, match="has repeated merges"):
        _ = Run(broken).merged
    path.write_text("\n".join(lines)[:-9])
    with pytest.raises(UserError, match="line 6 is not JSON: delete the file"):
        _ = Run(broken).merged


def test_a_score_without_a_task_is_named(broken: Path) -> None:
    path = broken / "scores/base.json"
    record = json.loads(path.read_text())
    del record["scores"]["rte"]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"base\.json has no score on rte"):
        _ = Run(broken).accuracy


def test_sizes_may_be_fewer(broken: Path) -> None:
    path = broken / "config.yaml"
    path.write_text(path.read_text().replace("sizes: null", "sizes: [4, 3]"))
    assert Run(broken).sizes == [3, 4]
    text = printed(exhibits.known()["divmerge_table3"], Run(broken))["md"].decode()
    assert "**Merges of 3 experts**" in text and "all n = 4 merges of 3 experts" in text
    exhibits.known()["divmerge_table6"].build(Run(broken))


def test_several_seeds_count_as_one_merge_and_their_spread_is_kept(broken: Path) -> None:
    path = broken / "merges/average/4.jsonl"
    line = json.loads(path.read_text())
    path.write_text("".join(json.dumps({**line, "seed": n, "anp": 70.0 + n}) + "\n" for n in range(3)))
    run = Run(broken)
    assert run.anp_of("average", 4) == [71.0]
    frame = run.anp
    row = frame[(frame["variant"] == "average") & (frame["size"] == 4)]
    assert row["spread"].tolist() == [1.0]
    assert len(run.merged) == 10 * 11 + 2


def test_scores_on_a_task_that_was_removed_count_no_more(broken: Path) -> None:
    """A mean over all scores in a record had them, until the stage ran again."""
    tasks = Run(broken).tasks
    for path in broken.glob("scores/*.json"):
        record = json.loads(path.read_text())
        record["scores"]["qnli"] = record["scores"]["rte"]
        path.write_text(json.dumps(record))
    assert all([*Run(broken).scores(model)] == tasks for model in ("base", "rte"))
    assert {*Benchmark.open(broken).scores.task} == {*tasks}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"merge": {"defaults": {"average": {"weights": [2.0, 1.0]}}}}, r"weights \[1\.0, 2\.0\], not \[2"),
        ({"merge": {"defaults": {"average": {"weights": [1.0, 2.0]}}}}, None),
        ({"seed": 1}, "seed 0, not 1 as the configuration says: run its stage again"),
    ],
)
def test_merges_of_an_earlier_configuration_are_refused(
    broken: Path, changed: dict[str, Any], words: str | None
) -> None:
    """A run with new settings writes them down first, and may be stopped before it merges."""
    path = broken / "merges/average/2.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    params = {"weights": [1.0, 2.0]}
    path.write_text("".join(json.dumps(line | {"params": params}) + "\n" for line in lines))
    config = yaml.safe_load((broken / "config.yaml").read_text())
    changed = changed | {"merge": config["merge"] | changed.get("merge", {})}
    (broken / "config.yaml").write_text(yaml.safe_dump(config | changed, sort_keys=False))
    if words is None:
        assert len(Run(broken).merges("average", 2)) == 6
        return
    with pytest.raises(UserError, match=rf"average/2\.jsonl was made with {words}"):
        Run(broken).merges("average", 2)


def test_merges_are_in_the_order_of_the_configuration(broken: Path) -> None:
    """Methods are compared merge by merge, and a file may have the order of an earlier configuration."""
    before = Run(broken).anp_of("average", 2)
    file = broken / "merges/average/2.jsonl"
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    assert Run(broken).anp_of("average", 2) == before and len({*before}) > 1


def test_a_merge_without_one_of_its_seeds_is_missed(broken: Path) -> None:
    config = yaml.safe_load((broken / "config.yaml").read_text())
    config["merge"]["variants"][0] = {"method": "average", "seeds": 2}
    (broken / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    as_variant(broken, "average", "average@seeds=2")
    path = broken / "merges/average@seeds=2/2.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    both = [line | {"seed": seed} for line in lines for seed in (0, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in both))
    assert len(Run(broken).merges("average@seeds=2", 2)) == 2 * 6
    path.write_text("".join(json.dumps(line) + "\n" for line in both[:-1]))
    with pytest.raises(UserError, match=r"2\.jsonl has no merge of rte\+sst2 with each of 2 seeds: run its"):
        Run(broken).merges("average@seeds=2", 2)


def test_no_torch() -> None:
    code = "import sys, remerge.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
