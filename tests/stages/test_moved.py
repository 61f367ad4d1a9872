"""Nothing follows from where a checkout lies."""

import shutil
from pathlib import Path

from remerge.config import digest, dump, load
from remerge.stages._workspace import Workspace

ASKED = {"prompt": "grammar : {sentence} answer :", "answers": ["unacceptable", "acceptable"]}


def test_a_moved_run_is_the_same_run(existing, tmp_path, monkeypatch):
    config = existing({"cola": ASKED, "sst2": ASKED}, "average")
    before = [digest(config.base, config.tasks, config.finetune), Workspace(config).record("base").content]
    (config.folder / "config.yaml").write_text(dump(config))
    moved = tmp_path.with_name(f"{tmp_path.name} moved")
    shutil.move(tmp_path, moved)
    tmp_path.mkdir()  # where fixtures clean up
    monkeypatch.chdir(moved)
    for file in ("b.yaml", "results/b/config.yaml"):
        again = load(Path(file))
        space = Workspace(again)
        assert [digest(again.base, again.tasks, again.finetune), space.record("base").content] == before
        for model in ("base", "cola", "sst2"):
            assert space.path(model) == Path(model)
