from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.cpus import available_cpus

V1 = "7:cpuset:/box\n4:cpu,cpuacct:/box\n"
V2 = "0::/box/inner\n"


@pytest.fixture
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))


def mounted(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpus", "files"),
    [
        pytest.param(16, {}, id="no cgroups"),
        pytest.param(16, {"proc/self/cgroup": V2}, id="v2, not mounted"),
        pytest.param(
            16, {"proc/self/cgroup": V2, "sys/fs/cgroup/box/cpu.max": "max 100000\n"}, id="v2, unlimited"
        ),
        pytest.param(
            3, {"proc/self/cgroup": V2, "sys/fs/cgroup/box/inner/cpu.max": "250000 100000\n"}, id="v2"
        ),
        pytest.param(
            2, {"proc/self/cgroup": V2, "sys/fs/cgroup/box/cpu.max": "200000 100000\n"}, id="v2, above"
        ),
        pytest.param(
            1, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, id="v2, own root"
        ),
        pytest.param(
            4,
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            },
            id="v1",
        ),
        pytest.param(
            2,
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            id="v1, in a container that sees its own cgroup as the root",
        ),
        pytest.param(
            16,
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            },
            id="v1, unlimited",
        ),
        pytest.param(
            16,
            {"proc/self/cgroup": V2, "sys/fs/cgroup/box/inner/cpu.max": "9900000 100000\n"},
            id="quota over affinity",
        ),
    ],
)
@pytest.mark.usefixtures("sixteen_cpus")
def test_counts_what_affinity_and_quota_leave(tmp_path: Path, cpus: int, files: dict[str, str]) -> None:
    assert available_cpus(mounted(tmp_path, files)) == cpus


def test_counts_this_process() -> None:
    assert 1 <= available_cpus() <= len(os.sched_getaffinity(0))
