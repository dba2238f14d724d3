"""Histograms: how many values fall between given bounds, counted without holding up who has a value."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from threading import Lock

_MOST_RECENT = 512


class Histogram:
    """Counts of integers by bucket, and their sum. Thread-safe.

    Args:
        bounds: The largest value of each bucket, ascending; one more bucket takes what is larger.
    """

    __slots__ = ("_bucket", "_counts", "_lock", "_recent", "_sum")

    def __init__(self, bounds: Sequence[int]) -> None:
        self._bucket = partial(bisect_left, bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0
        self._recent: deque[int] = deque()  # not in the counts yet
        self._lock = Lock()

    def add(self, value: int) -> None:
        """Count a value."""
        # Looking up the bucket of many at once costs less than that of each, and no caller waits for a lock.
        self._recent.append(value)
        if len(self._recent) >= _MOST_RECENT:
            self._count_recent()

    def extend(self, values: Iterable[int]) -> None:
        """Count many values."""
        self._recent.extend(values)
        self._count_recent()

    def counts(self) -> tuple[list[int], int]:
        """Return how many values each bucket holds, and the sum of all values."""
        self._count_recent()
        with self._lock:
            return self._counts.copy(), self._sum

    def _count_recent(self) -> None:
        with self._lock:
            recent = [self._recent.popleft() for _ in range(len(self._recent))]
            self._sum += sum(recent)
            for bucket in map(self._bucket, recent):
                self._counts[bucket] += 1
