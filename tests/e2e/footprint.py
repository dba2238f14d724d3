"""What a server holds of the system's resources, its worker processes included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Footprint:
    """Sums over the processes."""

    rss_mib: float
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Footprint:
        """Measure a process and the processes that it has started."""
        statuses = [Path(f"/proc/{process}/status").read_text() for process in _family(pid)]
        return cls(
            sum(_number("VmRSS", status) for status in statuses) / 1024,
            sum(len(list(Path(f"/proc/{process}/fd").iterdir())) for process in _family(pid)),
            sum(_number("Threads", status) for status in statuses),
        )


def _number(name: str, status: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(match[1]) if match else 0


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
