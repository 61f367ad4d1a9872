"""What models compute in: as configured on a GPU, told apart in every key; float32 on a CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from projects import settings

from remerge.checkpoints.models import prepare_process
from remerge.config import Config
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
