"""The splits of a task, as a stage keeps them for others."""

import json
from pathlib import Path

import pytest

from remerge.config import Config
from remerge.errors import Stale
from remerge.stages import data
from remerge.stages._workspace import Workspace


def benchmark(**asked):
    kept = {"source": "./own", "prompt": "{first}", "answers": ["no", "yes"], **asked}
    miniature = {"source": "miniature", "prompt": "{sentence}", "answers": ["no", "yes"]}
    return Config.model_validate(
        {
            "benchmark": "b",
            "base": {"source": "./base"},
            "tasks": {"own": kept, "cola": miniature},
            "merge": {"variants": ["average"]},
        }
    )


def test_what_was_left_out_for_another_prompt_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    Path("own").mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"first": None if k else "a", "second": f"{k} {split}", "label": k} for k in range(2)]
        Path(f"own/{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data.run(benchmark(missing="drop"), "own")
    assert len(Workspace(benchmark(missing="drop")).rows("own", "test")) == 1
    for changed in ({"missing": "drop", "prompt": "{second}"}, {"missing": "refuse"}):
        with pytest.raises(Stale, match=r"was made from other settings than today's"):
            Workspace(benchmark(**changed)).rows("own", "test")
    # Of examples that lack nothing, the prompt is made only when they are read.
    data.run(benchmark(prompt="{second}"), "own")
    assert len(Workspace(benchmark(prompt="{second} {label}")).rows("own", "test")) == 2
