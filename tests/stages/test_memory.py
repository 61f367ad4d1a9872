from pathlib import Path

import pytest
import torch

from remerge.stages._memory import FORGOTTEN, forget_peak, most, peak

STATUS = Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.exists(), reason="a system that says elsewhere what a process held")
def test_on_a_cpu_it_is_what_the_process_held() -> None:
    (kib,) = (int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak(torch.device("cpu")) == pytest.approx(1024 * kib, rel=0.02)
    before, held = peak(torch.device("cpu")), torch.ones(100_000_000)
    assert peak(torch.device("cpu")) >= before  # it may have been as high before
    held = held[:1].clone()
    forget_peak(torch.device("cpu"))
    low = peak(torch.device("cpu"))
    held = torch.ones(100_000_000)
    assert 3.8e8 < peak(torch.device("cpu")) - low < 4.6e8, held.shape


def test_on_a_gpu_it_is_what_was_allocated_since(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    allocated = {0: 5, 1: 50}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device: allocated[getattr(device, "index", device)]
    )
    monkeypatch.setitem(FORGOTTEN, "cuda", 0)
    device = torch.device("cuda:1")
    forget_peak(device)
    allocated[1] = 21
    assert asked == [device] and peak(device) == 21
    assert most()[1] == 50
