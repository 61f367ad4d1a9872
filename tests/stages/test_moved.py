"""Nothing follows from where a checkout lies."""

import shutil
import time
from pathlib import Path

from remerge.config import digest, dump, load
from remerge.made import content_of
from remerge.stages import experts
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


def test_another_folder_under_the_same_name_is_another_model(existing):
    """Though only a folder above it was renamed, which leaves the times of everything in it."""
    config = existing({"cola": ASKED, "sst2": ASKED}, "average")
    for above, task in (("a", "cola"), ("b", "sst2")):
        shutil.copytree(task, f"{above}/expert")
    asked = config.tasks["cola"].model_copy(update={"expert": "a/expert"})
    experts.run(config.model_copy(update={"tasks": {**config.tasks, "cola": asked}}), "cola")
    time.sleep(0.01)
    known = content_of(config.folder, "cola", "a/expert")
    assert known == Workspace(config).record("cola").content
    Path("a").rename("c")
    Path("b").rename("a")
    assert content_of(config.folder, "cola", "a/expert") != known
