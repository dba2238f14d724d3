"""CPU time and memory of a process and all that it started, from /proc (see proc(5))."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat, counted from the one after the name, which is the third.
_UTIME, _STIME = 14 - 3, 15 - 3


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):  # it ended meanwhile
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the tree has used, in user mode and in the kernel."""
    return sum(_ticks(process) for process in tree(pid)) / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Return the resident memory of the tree, in 10^6 bytes; pages that are shared count for each."""
    return sum(_resident_pages(process) for process in tree(pid)) * _PAGE_BYTES / 1e6


def _ticks(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[_UTIME]) + int(fields[_STIME]) if fields else 0


def _resident_pages(pid: int) -> int:
    fields = _read(pid, "statm").split()
    return int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> str:
    """Return a file of /proc; "" if the process has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
