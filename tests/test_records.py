"""Records: what is written is read again, and what is wrong is named with file, line and remedy."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from remerge.errors import UserError
from remerge.records import Merge, Reference, Score, Scores, anp, normalised, normalised_restricted


def score(value: float, restricted: float | None = None) -> Score:
    return Score(metric="accuracy", value=value, restricted=restricted, n=10)


def test_anp_is_the_mean_share_of_the_experts_own_scores() -> None:
    scores, own = {"a": score(0.3), "b": score(0.8)}, {"a": score(0.6), "b": score(0.8), "c": score(0.1)}
    assert normalised(scores, own) == {"a": 0.5, "b": 1.0}
    assert anp(normalised(scores, own)) == 75.0
    assert math.isnan(normalised(scores, {**own, "a": score(0.0)})["a"])


def test_restricted_scores_are_shares_of_restricted_scores() -> None:
    own = {"a": score(0.6, 0.9), "b": score(0.8)}
    assert normalised_restricted({"a": score(0.3, 0.45)}, own) == {"a": 0.5}
    assert math.isnan(anp(normalised_restricted({"a": score(0.3, 0.45), "b": score(0.8)}, own)))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rouge = Score(metric="rougeL", value=0.5, n=3, rouge1=0.6, rouge2=0.4, rougeL=0.5)  # type: ignore[call-arg]
    record = Scores(benchmark="b", model="base", scores={"a": rouge})
    record.write(tmp_path, model="base")
    assert Scores.read(tmp_path, model="base").sealed() == record.sealed()
    assert json.loads((tmp_path / "scores/base.json").read_text())["scores"]["a"]["rouge1"] == 0.6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"size": 2', '"size": "2"', "has a wrong size"),
        ('"size": 2', '"size": 2.5', "has a wrong size"),
        ('"anp": ', '"anq": ', "has no anp"),
        ('"anp_restricted"', '"more": 1, "anp_restricted"', "has an unknown key more"),
        ('"merge": ', '"merge": NaN, "x": ', "has a wrong seconds.merge"),
        ('"evaluate": ', '"evaluate": 1e999, "x": ', "has a wrong seconds.evaluate"),
        ('"metric": "accuracy"', '"metric": null', "has a wrong scores.cola.metric"),
        ("}", "", "is not JSON"),
        ("cola", "col\udce9", "is not UTF-8"),
    ],
)
def test_a_wrong_line_is_named(world: Path, tmp_path: Path, old: str, new: str, words: str) -> None:
    text = (world / "merges/average/2.jsonl").read_text()
    first, second, *_ = text.splitlines()
    path = tmp_path / "merges/average/2.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes("\n".join([first, second.replace(old, new)]).encode(errors="surrogateescape"))
    with pytest.raises(UserError) as error:
        Merge.read_lines(tmp_path, variant="average", group=2)
    message = str(error.value)
    assert message.startswith(f"{path}, line 2 {words}") and message.endswith("delete the file and run again")
    assert "\n" not in message


def test_a_missing_file_and_one_that_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scores/base\.json is missing: run the stage that makes it"):
        Scores.read(tmp_path, model="base")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/base.json").write_text("[]")
    with pytest.raises(UserError, match=r"base\.json is not a record: delete"):
        Scores.read(tmp_path, model="base")


def test_what_is_of_something_else_or_was_altered_is_refused(tmp_path: Path) -> None:
    record = Scores(benchmark="b", model="cola", scores={"cola": score(0.5)})
    record.write(tmp_path, model="mnli")
    with pytest.raises(UserError, match=r"scores/mnli\.json has model 'cola', not 'mnli': delete the file"):
        Scores.read(tmp_path, model="mnli")
    record.write(tmp_path, model="cola")
    with pytest.raises(UserError, match=r"scores/cola\.json has benchmark 'b', not 'c': delete the file"):
        Scores.read(tmp_path, model="cola", benchmark="c")
    path = tmp_path / "scores/cola.json"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(UserError, match=r"scores/cola\.json was altered after it was written: delete"):
        Scores.read(tmp_path, model="cola")


def test_a_seal_is_of_everything_but_what_was_measured() -> None:
    record = Reference(task="cola", inputs=3, positions=6, seconds=1.5, device="cpu")
    assert record.sealed()["seal"] == record.model_copy(update={"seconds": 2.5}).sealed()["seal"]
    assert record.sealed()["seal"] != record.model_copy(update={"inputs": 4}).sealed()["seal"]


def test_it_is_light() -> None:
    code = "import sys, remerge.records; sys.exit(any(m in sys.modules for m in ('torch', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
