"""Counts a call in the statistics of the model that it is for, when it ends: the one place that does."""

from __future__ import annotations

import time

from service.api.call import Call
from service.statistics import Inference, Statistics


class Tally:
    """What is to be counted for one call.

    Attributes:
        inference: where the time went; set before the call ends well.
    """

    def __init__(self, call: Call, statistics: Statistics) -> None:
        self.inference: Inference | None = None
        self._call = call
        self._statistics = statistics
        call.on_end(self._count)

    def _count(self) -> None:
        duration_ns = time.perf_counter_ns() - self._call.started_ns
        if self._call.error is None and self.inference is not None:
            self._statistics.succeeded(self.inference, duration_ns)
        else:
            self._statistics.failed(duration_ns)
