"""Values made of files that an operator may replace while the server runs: certificates, lists of tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import StartupError

_log: FilteringBoundLogger = structlog.get_logger()

Value = TypeVar("Value")
_Stamp = tuple[tuple[int, int, int], ...]


class Reloaded(Generic[Value]):
    """A value that is made again when its files have changed. Thread-safe.

    What can't be used is logged, once a change, and the value that was is kept.

    Args:
        files: What it is made of.
        make: Makes it; raises StartupError, which says what is wrong.
        every_s: How often the files are looked at, at most.

    Raises:
        StartupError: The first value can't be made.
    """

    def __init__(self, files: Sequence[Path], make: Callable[[], Value], every_s: float = 0.0) -> None:
        self._files = files
        self._make = make
        self._every_s = every_s
        self._lock = Lock()
        self._stamp = self._stamp_now()
        self._value = make()
        self._look_again = time.monotonic() + every_s

    def get(self) -> Value:
        """Return the value of the files as they are, or as they were when they could last be used."""
        if time.monotonic() >= self._look_again and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._value

    def _look(self) -> None:
        self._look_again = time.monotonic() + self._every_s
        if (stamp := self._stamp_now()) == self._stamp:
            return
        names = [str(file) for file in self._files]
        try:
            self._value = self._make()
        except StartupError as error:
            _log.error("files changed and can't be used; what they held before stays", reason=str(error))
        else:
            _log.info("files changed and are in use", files=names)
        self._stamp = stamp  # taken before they were read: a change in between is seen the next time

    def _stamp_now(self) -> _Stamp:
        """Tell one state of the files from another; one that is missing has a state too."""
        return tuple(_stamp_of(file) for file in self._files)


def _stamp_of(file: Path) -> tuple[int, int, int]:
    try:
        stat = file.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
