"""How many CPUs this process may use: in a container fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from service.cgroups import groups, read


def available_cpus(root: Path = Path("/")) -> int:
    """Count the CPUs this process may use: its affinity, or its cgroup's quota rounded up if that is less.

    Args:
        root: Where `proc` and `sys` are mounted.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min((affinity, *map(math.ceil, _quotas(root)))))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in CPUs."""
    for folder, version in groups("cpu", root):
        if version == 2:
            yield from _quota(*read(folder / "cpu.max").split())
        else:
            yield from _quota(read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us"))


def _quota(quota: str = "", period: str = "") -> Iterator[float]:
    # Unlimited is "max" in v2, -1 in v1.
    if quota.strip().isdigit() and period.strip().isdigit():
        yield int(quota) / int(period)
