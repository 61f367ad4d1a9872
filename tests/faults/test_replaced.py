"""Inputs replaced in place, with their times kept, and what `remerge verify` says of a run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from faults.small import CONFIG, LEARNED, RUN, TASKS, finish, settings
from safetensors.torch import load_file, save_file

from remerge import config as configuration
from remerge import exhibits, made
from remerge.__main__ import main
from remerge.benchmark import Benchmark
from remerge.contents import digest_of, of_model
from remerge.errors import UserError
from remerge.records import Data, Merge
from remerge.report.make import write
from remerge.report.page import write_report
from remerge.stages import _code
from remerge.stages._models import Models


def verified(capsys: Any) -> tuple[int, list[str]]:
    capsys.readouterr()
    status = main(["verify", str(RUN)])
    return status, capsys.readouterr().out.splitlines()


def replaced(path: Path, data: bytes) -> None:
    """Other bytes in the place of a file's, of the same size and time."""
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def altered(path: Path) -> None:
    """A tensor file with other weights, of the same size and time."""
    times, tensors = path.stat(), load_file(path)
    save_file({name: tensor + 0.01 for name, tensor in tensors.items()}, path, {"format": "pt"})
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_finished_run_holds(copied: Path, capsys: Any) -> None:
    status, lines = verified(capsys)
    assert status == 0 and len(lines) == 1, lines
    assert lines[0].endswith("files are unchanged since they were made")


@pytest.mark.parametrize("linked", [RUN.parent, RUN], ids=str)
def test_a_finished_run_holds_where_its_folder_is_a_link(
    copied: Path, tmp_path: Path, capsys: Any, linked: Path
) -> None:
    """To a larger disk, where it may have any name; and where a link leads to a run."""
    (tmp_path / "link").symlink_to(copied / RUN)
    assert main(["verify", str(tmp_path / "link")]) == 0
    shutil.move(linked, tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    status, lines = verified(capsys)
    assert status == 0 and len(lines) == 1, lines


def test_a_run_of_a_gpu_holds_on_a_machine_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Which would compute in another precision, as every key says."""
    monkeypatch.chdir(tmp_path)
    raw = settings() | {"device": "cuda"}
    raw["base"]["dtype"], raw["merge"]["variants"] = "bfloat16", ["average"]
    with monkeypatch.context() as pretended:
        pretended.setattr(Models, "device", torch.device("cpu"))
        pretended.setattr(Models, "precision", "bfloat16")
        finish(raw)
    status, lines = verified(capsys)
    assert status == 0 and len(lines) == 1, lines
    Path(CONFIG).write_text(Path(CONFIG).read_text().replace("device: cuda", "device: auto"))
    assert main(["exports", CONFIG, "average", "cola+mnli"]) == 0
    replaced(RUN / "scores/cola.json", (RUN / "scores/cola.json").read_bytes()[::-1])
    status, lines = verified(capsys)
    assert status == 2 and "are corrupt" in lines[-1] and " 0 stale" in lines[-1], lines


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("experts/cola/model.safetensors", "is not the file that results/small/experts/cola.json records"),
        ("base/model.safetensors", "is not the file that results/small/base.json records"),
        ("references/mnli.safetensors", "was altered or replaced after it was made"),
        ("statistics/sst2/fisher.safetensors", "was altered or replaced after it was made"),
    ],
)
def test_weights_replaced_in_place_are_named(copied: Path, capsys: Any, file: str, named: str) -> None:
    altered(RUN / file)
    status, lines = verified(capsys)
    assert status == 2 and any(f"{RUN / file} {named}" in line for line in lines), lines
    assert "corrupt" in lines[-1]


def test_a_number_in_a_record_a_table_or_a_journal(copied: Path, capsys: Any) -> None:
    merges = RUN / "merges/average/2.jsonl"
    line, *rest = merges.read_text().splitlines()
    record = json.loads(line)
    record["seconds"]["merge"] += 1  # what no seal covers, the journal tells
    merges.write_text("\n".join([json.dumps(record), *rest]) + "\n")
    table = RUN / "tables/pairs.csv"
    table.write_text(table.read_text().replace(".", ",", 1) + "x")
    journal = RUN / "journal/weights.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    status, lines = verified(capsys)
    assert status == 2
    for named in (
        f"corrupt: {merges} differs from its journal",
        f"stale: {table} is not what today's records and code make",
        f"corrupt: {journal} has 1 lines that were altered after they were written",
    ):
        assert any(named in line for line in lines), lines


def test_findings_in_examples_that_are_others(copied: Path, capsys: Any) -> None:
    cola, mnli = (RUN / f"data/{task}.json" for task in ("cola", "mnli"))
    mnli.write_text(cola.read_text())
    cola.write_text(cola.read_text().replace('"repeated": 0', '"repeated": 1', 1))
    status, lines = verified(capsys)
    assert status == 2 and len(lines) == 3, lines
    assert f"{cola} was altered" in lines[0] and f"{mnli} has task 'cola'" in lines[1], lines


def test_findings_in_examples_of_another_run_or_prompt(copied: Path, capsys: Any) -> None:
    """Whose seal holds, for it covers the record alone."""
    cola = Data.read(RUN, task="cola")
    test = cola.splits["test"].model_copy(update={"seen": 3})
    cola.model_copy(update={"splits": cola.splits | {"test": test}}).write(RUN, task="cola")
    config = Path(CONFIG)
    asked = "premise : {premise} | hypothesis : {hypothesis}"
    config.write_text(config.read_text().replace(asked, "{label}"))
    said = " is not of today's examples and prompts: run its stage again"
    stale = [line for line in verified(capsys)[1] if line.endswith(said)]
    assert stale == [f"stale: {RUN / f'data/{task}.json'}{said}" for task in ("cola", "mnli")]


def test_examples_in_another_order_are_not_beside_the_outcomes(copied: Path) -> None:
    file = RUN / "data/cola/test.parquet"
    examples = Benchmark.open(RUN).examples("cola")
    assert len(examples) == len(Benchmark.open(RUN).outcomes("cola", "cola+mnli"))
    examples[::-1].to_parquet(file)
    with pytest.raises(UserError, match=r"cola/test\.parquet was altered or replaced after it was made"):
        Benchmark.open(RUN).examples("cola")


@pytest.fixture
def page(copied: Path) -> Path:
    """The page of the run."""
    for exhibit in exhibits.of(configuration.load(RUN / "config.yaml")).values():
        write(RUN, exhibit.name, exhibit.kind)
    write_report(RUN)
    return RUN / "report.html"


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("%", "")])
def test_a_page_of_other_records(page: Path, capsys: Any, damage: Callable[[str], str]) -> None:
    page.write_text(damage(page.read_text()))
    status, lines = verified(capsys)
    assert status == 2 and len(lines) == 2, lines
    assert lines[0].startswith(f"stale: {page} is not what today's records and code make"), lines


def test_a_page_holds_elsewhere(page: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its commands, its costs and the versions beside it would be there."""
    assert verified(capsys)[0] == 0
    monkeypatch.setattr("remerge.report.page.command", lambda benchmark: "another command")
    monkeypatch.setattr("remerge.report.page.versions", lambda packages: {"python": "3.0"})
    shutil.rmtree(RUN / "costs")
    status, lines = verified(capsys)
    assert status == 0, lines


def test_other_settings_versions_and_parents_are_stale(
    copied: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path(CONFIG)
    config.write_text(config.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    status, lines = verified(capsys)
    assert status == 2
    trained = [line for line in lines if "was trained from other settings than today's" in line]
    assert len(trained) == 4, lines  # three experts and the multitask model
    shutil.copytree(copied.parent / "copy", copied.parent / "other")
    monkeypatch.setattr("remerge.verify.versions", lambda: {"python": "3.0"})
    assert any("was made with python" in line and "not 3.0 as here" in line for line in verified(capsys)[1])


def test_a_configuration_that_names_another_model_by_now(copied: Path, capsys: Any) -> None:
    """As where a run with it was stopped before it looked for the model."""
    config = yaml.safe_load(Path(CONFIG).read_text())
    config["tasks"]["cola"]["expert"] = f"./{RUN}/experts/mnli"
    Path(CONFIG).write_text(yaml.safe_dump(config))
    status, lines = verified(capsys)
    said = "experts/cola.json is of another model (fine-tuned here) than the configuration's"
    assert status == 2 and any(said in line for line in lines), lines
    assert main(["exports", CONFIG, "average", "cola+mnli"]) == 2
    assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="is of another model"):
        Benchmark.open(RUN).model("average", "cola+mnli")


def test_edited_code_makes_what_follows_from_it_stale(
    copied: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def edited(path: Path, *args: Any, **given: Any) -> str:
        return read(path, *args, **given) + ("# edited" if path.name == "curvature.py" else "")

    monkeypatch.setattr(Path, "read_text", edited)
    _code._code.cache_clear()
    status, lines = verified(capsys)
    _code._code.cache_clear()
    stale = [line for line in lines if "made from other code than today's" in line]
    assert status == 2 and len(stale) == 3, lines  # the statistics
    assert any("alignment.json does not follow from today's code" in line for line in lines)
    # Merges follow from all code that makes merges, whether their method needs statistics or not.
    assert any("merges/average" in line for line in lines)


def test_a_local_source_is_read_again_only_if_it_may_have_changed(
    tmp_path: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remerge.records import Model

    folder = Path("mine").resolve()
    shutil.copytree(RUN / "experts/cola", folder)
    record = Model.read(RUN, model="cola").model_copy(
        update={
            "path": str(folder),
            "inode": folder.stat().st_ino,
            "files": of_model(folder),
            "follows": {},
        }
    )
    record.write(RUN, model="cola")
    before = made.content_of(RUN, "cola", "./mine")
    assert before == record.content and made.content_of(RUN, "cola", None) is None
    monkeypatch.setattr(made, "of_model", lambda folder: {})
    assert made.content_of(RUN, "cola", "./mine") == before  # nothing was read
    monkeypatch.undo()
    monkeypatch.chdir(copied)
    altered(folder / "model.safetensors")
    assert made.content_of(RUN, "cola", "./mine") != before
    assert main(["merges", CONFIG, "average", "2"]) == 0  # nothing is computed, and so nothing is read
    shutil.rmtree(RUN / "journal/merges")
    assert main(["merges", CONFIG, "average", "2"]) == 2


def test_a_file_is_read_once_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12")
    first = digest_of(path)
    opened, open_ = [], Path.open
    monkeypatch.setattr(Path, "open", lambda *given: opened.append(given) or open_(*given))
    assert digest_of(path) == first and not opened
    monkeypatch.undo()
    replaced(path, b"21")
    assert digest_of(path) != first


def test_a_reference_of_another_expert_is_refused(copied: Path, capsys: Any) -> None:
    """One that was made before its expert was trained anew, as if no stage had been run since."""
    assert torch.is_tensor(load_file(RUN / "references/cola.safetensors")["answers"])
    config = Path(CONFIG)
    config.write_text(config.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    assert main(["experts", CONFIG, "cola"]) == 0
    assert main(["merges", CONFIG, LEARNED, "2"]) == 2
    assert "cola.safetensors was made from other weights than today's" in capsys.readouterr().err


def retrained() -> None:
    config = Path(CONFIG)
    config.write_text(config.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    assert main(["experts", CONFIG, "cola"]) == 0


def set_otherwise() -> None:
    config = Path(CONFIG)
    config.write_text(config.read_text().replace("  inputs: 4\n", "  inputs: 5\n"))
    for task in TASKS:
        assert main(["statistics", CONFIG, task, "fisher"]) == 0


def resubstituted() -> None:
    """Another run's record, with its seal, whose journal stays here."""
    path = RUN / "merges/fisher/2.jsonl"
    lines = [Merge.model_validate_json(line) for line in path.read_text().splitlines()]
    changed = [merge.model_copy(update={"anp": 1.0}).sealed() for merge in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))


@pytest.mark.parametrize("change", [retrained, set_otherwise, resubstituted])
def test_no_merge_is_made_again_beside_scores_of_another(
    copied: Path, capsys: Any, change: Callable[[], None]
) -> None:
    """The card had the scores of an expert that was trained anew since, or of other settings."""
    assert main(["exports", CONFIG, "fisher", "cola+mnli"]) == 0
    shutil.rmtree(RUN / "exports")
    change()
    capsys.readouterr()
    assert main(["exports", CONFIG, "fisher", "cola+mnli"]) == 2
    said = "merges/fisher/2.jsonl: the merge of cola+mnli does not follow from today's code, settings"
    assert said in capsys.readouterr().err and not (RUN / "exports").exists()
    with pytest.raises(UserError, match=r"does not follow from .*: run its stage again"):
        Benchmark.open(RUN).model("fisher", "cola+mnli")
