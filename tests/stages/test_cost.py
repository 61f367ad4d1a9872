"""What jobs took: counted in the process, kept when it ends well, added up for the page."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from projects import settings
from transformers import LlamaConfig, LlamaForCausalLM

from remerge.checkpoints.models import load_whole
from remerge.config import Config
from remerge.records import Cost
from remerge.report.costs import costs
from remerge.report.run import Run
from remerge.stages._cost import recorded


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return Config.model_validate(settings())


def test_a_job_is_recorded_with_its_passes_and_memory(config: Config, tmp_path: Path) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=32, **shape)).save_pretrained(tmp_path / "model")
    with recorded(config, "base", []):
        model = load_whole(LlamaForCausalLM, tmp_path / "model", torch.float32)
    before = Cost.read(config.folder, job="base")
    with recorded(config, "share", ["select/ties", 2]):
        held = torch.ones(30_000_000)
        for _ in range(3):
            model(torch.ones(1, 4, dtype=torch.int64))
        del held
    cost = Cost.read(config.folder, job="share/select/ties/2")
    assert cost.passes - before.passes == 3
    assert cost.memory >= 120e6 and cost.gpu == 0
    assert 0 < cost.seconds < cost.cpu + 60


def test_a_job_that_fails_and_one_that_shows_are_not(config: Config) -> None:
    with pytest.raises(ZeroDivisionError), recorded(config, "experts", ["cola"]):
        _ = 1 / 0
    with recorded(config, "tables", ["best"]):
        pass
    assert Run(config.folder).jobs == []


def test_the_page_adds_them_up(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(), sort_keys=False))

    def took(job: str, seconds: float, memory: int, gpu: int = 0) -> None:
        made = Cost(job=job, seconds=seconds, cpu=2 * seconds, memory=memory, gpu=gpu, passes=1000)
        made.write(tmp_path, job=job)

    took("experts/cola", 40.0, 1_500_000_000)
    took("experts/mnli", 20.0, 2_000_000_000, 3_250_000_000)
    took("batch/divmerge@level=task", 1.0, 10_000_000)
    for share in (1, 2):
        took(f"share/divmerge@level=task/{share}", 5.0, 20_000_000)
    for job in ("experts/rte", "batch/ties", "share/ties/1"):  # of an earlier configuration
        took(job, 1000.0, 9_000_000_000)
    rows = {row["label"]: row for row in costs(Run(tmp_path))}
    assert list(rows) == ["experts", "merges: divmerge@level=task", "total"]
    assert rows["experts"] == {
        "label": "experts",
        "jobs": "2",
        "seconds": 60.0,
        "cpu": 120.0,
        "memory": "2.00",
        "gpu": "3.25",
        "passes": "2,000",
    }
    assert [rows["merges: divmerge@level=task"][key] for key in ("jobs", "seconds", "gpu")] == [
        "3",
        11.0,
        "–",
    ]
    assert rows["total"]["passes"] == "5,000"
    shutil.rmtree(tmp_path / "costs")
    assert costs(Run(tmp_path)) == []
