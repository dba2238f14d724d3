"""The limits that a container runtime sets for this process and all it starts: cgroups, versions 1 and 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NO_LIMIT = 1 << 60
"""Version 1 tells the largest number of pages where there is no limit on memory."""


class Group(NamedTuple):
    """A cgroup's folder; its files have other names in version 2."""

    folder: Path
    version: int


def groups(controller: str, root: Path = Path("/")) -> Iterator[Group]:
    """Yield this process's cgroup and all above it that can be seen: the limits of each of them hold.

    Args:
        controller: What is limited: "cpu", "memory", "pids".
        root: Where `proc` and `sys` are mounted.
    """
    for line in read(root / "proc/self/cgroup").splitlines():
        # hierarchy-ID:controller-list:path; the list is empty for version 2. See cgroups(7).
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from (Group(folder, 2) for folder in _upwards(root / "sys/fs/cgroup", path))
        elif controller in controllers.split(","):
            yield from (Group(folder, 1) for folder in _upwards(root / "sys/fs/cgroup" / controllers, path))


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return how many bytes the processes of the container may take together; None: no limit."""
    files = {1: "memory.limit_in_bytes", 2: "memory.max"}
    return min(
        _numbers(group.folder / files[group.version] for group in groups("memory", root)), default=None
    )


def available_memory(root: Path = Path("/")) -> int:
    """Return how many bytes this process may take: the container's limit, or the machine's memory."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(installed, memory_limit(root) or installed)


def process_limit(root: Path = Path("/")) -> int | None:
    """Return how many more processes and threads the container may have; None: no limit."""
    left = [
        most - next(_numbers([group.folder / "pids.current"]), 0)
        for group in groups("pids", root)
        for most in _numbers([group.folder / "pids.max"])
    ]
    return min(left, default=None)


def read(path: Path) -> str:
    """Return a file's text; "" if it isn't there."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _numbers(paths: Iterator[Path] | list[Path]) -> Iterator[int]:
    for path in paths:
        text = read(path).strip()
        if text.isdigit() and int(text) < _NO_LIMIT:  # "max" is no limit
            yield int(text)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield the cgroup's folder and its ancestors, up to the mount: all that a container may see of them."""
    folder = mount / path.strip("/")
    yield folder
    while folder != mount:
        folder = folder.parent
        yield folder
