import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remerge.errors import UserError
from remerge.report.records import Records
from remerge.report.tables import TABLES


@pytest.fixture
def broken(world: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(world, tmp_path / "demo"))


def test_what_a_run_holds(world: Path) -> None:
    records = Records(world)
    assert records.benchmark == "demo"
    assert records.tasks == ["cola", "sst2", "mrpc", "rte"]
    assert records.sizes == [2, 3, 4]
    assert [v.name for v in records.variants][3] == "ties@density=0.2,scale=1.0"
    assert len(records.merges) == 10 * 11
    assert len(records.anp) == 12 * 11
    assert [v.method for v in records.tuned] == ["adamerging", "divmerge", "divmerge"] * 2


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
    assert Records(world).anp_of("base", 3) == pytest.approx(expected)


def test_divergence_is_model_by_task(world: Path) -> None:
    record = json.loads((world / "divergences/mrpc.json").read_text())
    frame = Records(world).divergence("js")
    assert frame["rte"]["mrpc"] == record["divergences"]["rte"]["js"]


@pytest.mark.parametrize(
    ("missing", "table"),
    [
        ("config.yaml", "seconds"),
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
        TABLES[table](Records(broken))
    assert str(broken / missing) in str(caught.value)


def test_a_half_written_size_is_named(broken: Path) -> None:
    path = broken / "merges/average/2.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match=r"average/2\.jsonl lacks rte\+sst2"):
        _ = Records(broken).merges
    path.write_text("\n".join([*lines, lines[0]]) + "\n")
    with pytest.raises(UserError, match="holds subsets twice"):
        _ = Records(broken).merges
    path.write_text("\n".join(lines)[:-9])
    with pytest.raises(UserError, match="line 6 is not JSON"):
        _ = Records(broken).merges


def test_a_score_without_a_task_is_named(broken: Path) -> None:
    path = broken / "scores/base.json"
    record = json.loads(path.read_text())
    del record["scores"]["rte"]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"base\.json has no score on rte"):
        _ = Records(broken).accuracy


def test_sizes_may_be_fewer(broken: Path) -> None:
    path = broken / "config.yaml"
    path.write_text(path.read_text().replace("sizes: null", "sizes: [4, 3]"))
    assert Records(broken).sizes == [3, 4]
    table = TABLES["divmerge_table3"](Records(broken))
    assert table.title == "Merges of 3"
    assert "all n = 4 merges of 3 experts" in table.caption
    TABLES["divmerge_table6"](Records(broken))


def test_no_torch() -> None:
    code = "import sys, remerge.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
