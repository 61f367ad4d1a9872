import pytest
import torch

from remerge.stages._memory import forget_peak, peak


def test_on_a_cpu_it_is_what_the_process_held() -> None:
    before = peak(torch.device("cpu"))
    size = before + 10**8  # more than was ever held
    held = b"1" * size
    after = peak(torch.device("cpu"))
    del held
    assert after >= size > before
    forget_peak(torch.device("cpu"))
    assert peak(torch.device("cpu")) >= after  # it cannot be forgotten


def test_on_a_gpu_it_is_what_was_allocated_since(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * device.index)
    device = torch.device("cuda:3")
    forget_peak(device)
    assert asked == [device] and peak(device) == 21
