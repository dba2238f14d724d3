"""How long the building of sessions may take of a model's time, so that it leaves time to answer."""

from __future__ import annotations

import time
from collections.abc import Callable


class BuildTime:
    """The time that is left for builds: it grows as time passes and shrinks with every build.

    Not thread-safe.

    Args:
        share: How much of the time builds may take in the long run.
        most_s: How much may be saved up, in seconds, which is what there is at first.
        clock: Tells the time in seconds.

    Attributes:
        clock: As given; what is spent is measured by it.
    """

    def __init__(
        self, share: float = 0.5, most_s: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share = share
        self._most_s = most_s
        self.clock = clock
        self._left_s = most_s
        self._seen_s = clock()

    def wait_s(self) -> float:
        """Tell in how many seconds the next build may begin; 0 for now."""
        now_s = self.clock()
        self._left_s = min(self._most_s, self._left_s + (now_s - self._seen_s) * self._share)
        self._seen_s = now_s
        return max(0.0, -self._left_s / self._share)

    def spend(self, seconds: float) -> None:
        """Count a build that took so long."""
        self._left_s -= seconds
