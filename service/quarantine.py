"""Counts the crashes of each version, and takes those from service that crash processes again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Lock

import structlog
from structlog.typing import FilteringBoundLogger

from service.suspects import QUARANTINED

_log: FilteringBoundLogger = structlog.get_logger()

_WITHIN_S = 600.0


class Quarantine:
    """The versions that workers must not run, by the digests of their files.

    Attributes:
        reasons: why, for callers to read; replaced, never changed.

    Args:
        crashes: how many within ten minutes are too many; 0: any number is fine.
        tell: told the reasons, outside of any lock, when workers may not know them.
    """

    def __init__(self, crashes: int, tell: Callable[[Mapping[str, str]], object]) -> None:
        self.reasons: Mapping[str, str] = {}
        self._most = crashes
        self._tell = tell
        self._times: dict[str, list[float]] = {}
        self._lock = Lock()

    def crashed(self, digest: str) -> None:
        """Count a crash of this version."""
        now_s = time.monotonic()
        with self._lock:
            times = [then_s for then_s in self._times.get(digest, ()) if now_s - then_s < _WITHIN_S]
            self._times[digest] = [*times, now_s]
            count = len(times) + 1
            _log.error("a run crashed its worker", digest=digest, crashes=count)
            if not self._most or count < self._most:
                return
            if digest not in self.reasons:
                self.reasons = {**self.reasons, digest: _reason(count)}
                _log.error("a version is quarantined", digest=digest, crashes=count)
        self._tell(self.reasons)

    def release(self, digest: str) -> None:
        """Let this version be run again; its crashes are forgotten."""
        with self._lock:
            self._times.pop(digest, None)
            if digest not in self.reasons:
                return
            self.reasons = {other: reason for other, reason in self.reasons.items() if other != digest}
        self._tell(self.reasons)


def _reason(crashes: int) -> str:
    times = "once" if crashes == 1 else f"{crashes} times"
    return f"{QUARANTINED}: the process died {times} while it ran; replace its file or load it anew"
