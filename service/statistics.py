"""What a model has done since it was loaded: counts and durations, thread-safe."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple


class Inference(NamedTuple):
    """One request that was answered, and where its time went, in nanoseconds."""

    samples: int
    """Items along axis 0; 1 for a model without a batch."""
    executions: int
    """Runs that are counted for this request and for no other that shared them."""
    input_ns: int
    """Making arrays of the request."""
    queue_ns: int
    infer_ns: int
    output_ns: int
    """Making the answer of the arrays."""
    cached: bool = False
    """Whether the response cache had the answer, so that nothing was run."""
    cache_ns: int = 0
    """Using the response cache; 0 without it."""


@dataclass(slots=True)
class Totals:
    """Sums over requests; durations in nanoseconds, of the answered ones but for `failure_ns`."""

    successes: int = 0
    failures: int = 0
    samples: int = 0
    executions: int = 0
    last_ms: int = 0
    """When the last answer was given, in milliseconds since 1970; 0 for never."""
    success_ns: int = 0
    failure_ns: int = 0
    input_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    cache_hits: int = 0
    """Answered requests that were not run; neither they nor their time count in samples and the others."""
    cache_hit_ns: int = 0
    cache_misses: int = 0
    cache_miss_ns: int = 0


class Statistics:
    """The totals of one version of a model."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._totals = Totals()

    def succeeded(self, inference: Inference, duration_ns: int) -> None:
        """Count a request that was answered, and how long it took from its arrival on."""
        totals = self._totals
        with self._lock:
            totals.successes += 1
            totals.last_ms = time.time_ns() // 1_000_000
            totals.success_ns += duration_ns
            if inference.cached:
                totals.cache_hits += 1
                totals.cache_hit_ns += inference.cache_ns
                return
            totals.cache_misses += inference.cache_ns > 0
            totals.cache_miss_ns += inference.cache_ns
            totals.samples += inference.samples
            totals.executions += inference.executions
            totals.input_ns += inference.input_ns
            totals.queue_ns += inference.queue_ns
            totals.infer_ns += inference.infer_ns
            totals.output_ns += inference.output_ns

    def failed(self, duration_ns: int) -> None:
        """Count a request that failed."""
        with self._lock:
            self._totals.failures += 1
            self._totals.failure_ns += duration_ns

    def totals(self) -> Totals:
        """Return a copy of the sums so far."""
        with self._lock:
            return replace(self._totals)
