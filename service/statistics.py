"""What a model has done since it was loaded: counts and durations, thread-safe."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal, NamedTuple

Change = Literal["loaded", "refused", "removed", "config_applied", "config_refused"]
"""What became of a version, or of a config.toml, that came, changed or went."""


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
            totals.samples += inference.samples
            totals.executions += inference.executions
            totals.last_ms = time.time_ns() // 1_000_000
            totals.success_ns += duration_ns
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


class ChangeCounts:
    """How often models changed while they were served, by model and what became of it; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, Change]] = Counter()

    def add(self, model: str, change: Change) -> None:
        """Count a change."""
        with self._lock:
            self._counts[model, change] += 1

    def totals(self) -> dict[tuple[str, Change], int]:
        """Return a copy of the counts so far."""
        with self._lock:
            return dict(self._counts)
