"""What models compute in: as configured on a GPU, told apart in every key; float32 on a CPU."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from projects import asked, settings

import remerge
from remerge.checkpoints.models import prepare_process
from remerge.config import Config
from remerge.errors import UserError
from remerge.methods import find
from remerge.stages import weights
from remerge.stages._bench import Bench
from remerge.stages._models import Models


@pytest.fixture
def untouched() -> Iterator[None]:
    """The process's own settings, put back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("untouched")
def test_tf32_is_taken_only_where_it_is_asked() -> None:
    prepare_process(torch.get_num_threads(), tf32=False)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
    prepare_process(torch.get_num_threads(), tf32=True)
    assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32


@pytest.mark.usefixtures("untouched")
def test_merges_are_never_made_in_tf32(
    existing: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In it, directions with small singular values would be noise, which some methods make large."""
    config = existing({task: asked(task) for task in ("cola", "sst2")}, "average")
    prepare_process(torch.get_num_threads(), tf32=True)
    eigh, found = torch.linalg.eigh, []

    def decomposed(*given: Any, **named: Any) -> Any:
        found.append(torch.backends.cuda.matmul.fp32_precision)
        return eigh(*given, **named)

    monkeypatch.setattr(torch.linalg, "eigh", decomposed)
    bench, signs = Bench(config), {"cola": 1, "sst2": 1}
    iso, drm = find("iso_c"), find("drm_h")
    bench.merge(iso, iso.settings({}), signs)
    bench.rescaled(drm, drm.settings({}), signs)
    bench.task_vectors("knots", [*signs])
    weights.run(config)
    assert len(found) > 20 and {*found} == {"ieee"}
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("asked", ["legacy", "by backend"])
def test_a_merge_of_one_s_own_program_is_not_made_in_its_tf32(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way the program has asked for it: torch refuses to read one way what was set the other."""
    base, expert = {"w": torch.zeros(4, 3)}, {"w": torch.randn(4, 3)}
    matmul, eigh, found = torch.backends.cuda.matmul, torch.linalg.eigh, []

    def decomposed(*given: Any, **named: Any) -> Any:
        found.append(matmul.fp32_precision)
        return eigh(*given, **named)

    monkeypatch.setattr(torch.linalg, "eigh", decomposed)
    before = matmul.fp32_precision
    try:
        if asked == "legacy":
            matmul.allow_tf32 = True
        else:
            matmul.fp32_precision = "tf32"
        remerge.merge("iso_c", base, [expert, expert])
        assert found and {*found} == {"ieee"} and matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


@pytest.mark.usefixtures("untouched")
def test_fresh_memory_is_not_filled() -> None:
    prepare_process(torch.get_num_threads(), tf32=False)
    with torch.profiler.profile() as profile:
        torch.empty(10)
    assert "aten::fill_" not in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("asked", ["float32", "tf32", "bfloat16"])
def test_a_gpu_computes_as_configured_and_a_cpu_in_float32(
    asked: Literal["float32", "tf32", "bfloat16"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = settings()
    raw["base"]["dtype"] = asked
    models = Models(Config.model_validate(raw | {"device": "cpu"}))
    assert (models.precision, models.dtype) == ("float32", torch.float32)
    models.device = torch.device("cuda")
    assert models.precision == asked
    assert models.dtype == (torch.bfloat16 if asked == "bfloat16" else torch.float32)


def test_a_gpu_that_cannot_be_used_is_not_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a node with a broken driver, some results of a run would be in float32 without a word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    raw = settings()
    assert Models(Config.model_validate(raw)).device.type == "cpu"
    raw["base"]["dtype"] = "tf32"
    with pytest.raises(UserError, match="tf32: PyTorch cannot use GPU-7, GPU-8, and a CPU"):
        print(Models(Config.model_validate(raw)).device)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Models(Config.model_validate(raw)).device.type == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps"])
def test_a_device_that_is_not_there_is_refused_where_a_model_needs_it(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster counts the lengths of prompts on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    models = Models(Config.model_validate(settings() | {"device": device}))
    assert models.folder == Path("results/seconds")
    with pytest.raises(UserError, match=f"device {device}: not on this machine: use auto or cpu"):
        print(models.device)
