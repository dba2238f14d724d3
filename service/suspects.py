"""Whose run crashed a process: notes of what runs, in memory that outlives the process.

The record is a file without a name: a table of the runs that go on, each a thread and a digest, and behind it
what Python's faulthandler writes of the thread that crashed.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from threading import get_ident
from types import TracebackType

QUARANTINED = "quarantined"
"""How the reason begins why a version that crashed processes isn't served."""

CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""What a process ends by that did wrong. SIGKILL is none: whoever ran out of memory, it may hit another."""

_RUNS = 2048
"""More than go on at once: each has a thread."""
_THREAD_BYTES, _DIGEST_BYTES = 8, 32
_ROW_BYTES = _THREAD_BYTES + _DIGEST_BYTES
_TABLE_BYTES = _RUNS * _ROW_BYTES
_EMPTY = bytes(_ROW_BYTES)
_REPORT_BYTES = 64 * 1024
_CRASHED = re.compile(rb"^Current thread 0x([0-9a-f]+)", re.MULTILINE)


class Suspects:
    """The versions that may crash this process; nobody asks, and nothing is noted.

    Attributes:
        quarantined: why versions must not be run, by the digests of their files.
    """

    def __init__(self) -> None:
        self.quarantined: Mapping[str, str] = {}

    def running(self, digest: str) -> AbstractContextManager[None]:
        """Make a block for each run of the version with this digest; any thread may be in it."""
        return nullcontext()


class NotedSuspects(Suspects):
    """The same in a worker: its runs are noted where its supervisor finds them.

    Args:
        record: descriptor of what `new_record` has made.
    """

    def __init__(self, record: int) -> None:
        super().__init__()
        self._table = mmap.mmap(record, _TABLE_BYTES)
        self._free = [slice(start, start + _ROW_BYTES) for start in range(0, _TABLE_BYTES, _ROW_BYTES)]
        os.lseek(record, _TABLE_BYTES, os.SEEK_SET)
        faulthandler.enable(record)

    def running(self, digest: str) -> AbstractContextManager[None]:
        """Make a block that notes the runs of the version with this digest."""
        return _Noted(self._table, self._free, bytes.fromhex(digest))


class _Noted:
    """The runs of one version."""

    __slots__ = ("_digest", "_free", "_table", "_taken")

    def __init__(self, table: mmap.mmap, free: list[slice], digest: bytes) -> None:
        self._table = table
        self._free = free
        self._digest = digest
        self._taken: dict[int, slice] = {}  # by thread, of which each has one run

    def __enter__(self) -> None:
        thread = get_ident()
        row = self._taken[thread] = self._free.pop()
        self._table[row] = thread.to_bytes(_THREAD_BYTES, "little") + self._digest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        row = self._taken.pop(get_ident())
        self._table[row] = _EMPTY
        self._free.append(row)


def new_record() -> int:
    """Make the record of one process; return its descriptor."""
    record = os.memfd_create("runs")
    os.ftruncate(record, _TABLE_BYTES)
    return record


def suspect_in(record: int) -> str:
    """Return the digest of what crashed the process of this record; "" if nothing did or it can't be told.

    What ran on the thread that crashed is the one. A crash on a thread that isn't Python's, or that was sent,
    is blamed on what ran if that was one version alone.
    """
    table = os.pread(record, _TABLE_BYTES, 0)
    rows = (table[start : start + _ROW_BYTES] for start in range(0, len(table), _ROW_BYTES))
    runs = {
        int.from_bytes(row[:_THREAD_BYTES], "little"): row[_THREAD_BYTES:].hex()
        for row in rows
        if row != _EMPTY
    }
    crashed = _CRASHED.search(os.pread(record, _REPORT_BYTES, _TABLE_BYTES))
    if crashed and (digest := runs.get(int(crashed[1], 16))):
        return digest
    return runs.popitem()[1] if len(set(runs.values())) == 1 else ""
