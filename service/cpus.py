"""How many CPUs this process may use: in a container fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """Count the CPUs this process may use: its affinity, or its cgroup's quota rounded up if that is less.

    Args:
        root: Where `proc` and `sys` are mounted.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((affinity, *map(math.ceil, _quotas(root)))))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in CPUs, of this process's cgroup and of all above it: each of them holds."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        # hierarchy-ID:controller-list:path; the list is empty for cgroup v2. See cgroups(7).
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(root / "sys/fs/cgroup", path):
                yield from _quota(*_read(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for folder in _upwards(root / "sys/fs/cgroup" / controllers, path):
                yield from _quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield the cgroup's folder and its ancestors, up to the mount: all that a container may see of them."""
    folder = mount / path.strip("/")
    yield folder
    while folder != mount:
        folder = folder.parent
        yield folder


def _quota(quota: str = "", period: str = "") -> Iterator[float]:
    # Unlimited is "max" in v2, -1 in v1.
    if quota.strip().isdigit() and period.strip().isdigit():
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
