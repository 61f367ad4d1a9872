"""The memory of this machine, and the limits of a container or of a cluster's job."""

from pathlib import Path

import psutil
import pytest

from remerge import room

WHOLE = psutil.virtual_memory().total
GROUPS = {
    "a machine": ("0::/\n", {}, WHOLE),
    "no limit": ("0::/user.slice\n", {"user.slice/memory.max": "max"}, WHOLE),
    "a container": ("0::/\n", {"memory.max": "4000000000\n"}, 4e9),
    "a job of Slurm": (
        "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n",
        {
            "system.slice/slurmstepd.scope/job_7/memory.max": "3000000000\n",
            "system.slice/slurmstepd.scope/job_7/step_0/user/task_0/memory.max": "max\n",
        },
        3e9,
    ),
    "version 1": (
        "5:cpu:/jobs\n4:memory:/jobs/a:b\n0::/\n",
        {"memory/jobs/a:b/memory.limit_in_bytes": "2000000000\n"},
        2e9,
    ),
    "version 1, with another controller": (
        "4:cpuset,memory:/jobs\n",
        {"memory/jobs/memory.limit_in_bytes": "2000000000\n"},
        2e9,
    ),
    "version 1, seen from inside": (
        "4:memory:/docker/0123\n",
        {"memory/memory.limit_in_bytes": "2000000000\n"},
        2e9,
    ),
    "version 1, no limit": ("4:memory:/\n", {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}, WHOLE),
}


@pytest.mark.parametrize("case", GROUPS)
def test_a_group_s_limit_counts(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, limits, expected = GROUPS[case]
    for name, limit in limits.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(room, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(room, "OWN", tmp_path / "own")
    assert room.room() == int(expected // 1_000_000)


def test_where_there_are_no_groups_the_machine_s_memory_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "OWN", tmp_path / "nothing")
    assert room.room() == WHOLE // 1_000_000
