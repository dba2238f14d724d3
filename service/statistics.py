"""What a model has done since it was loaded: counts and durations, thread-safe."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import add
from threading import Lock
from typing import NamedTuple

_MOST_RECENT = 256


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


def combined(parts: Iterable[Totals]) -> Totals:
    """Add up what several processes have counted."""
    whole = Totals()
    for part in parts:
        for name in Totals.__slots__:
            join = max if name == "last_ms" else add
            setattr(whole, name, join(getattr(whole, name), getattr(part, name)))
    return whole


class Statistics:
    """The totals of one version of a model."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._totals = Totals()
        self._recent: deque[tuple[Inference, int, int]] = deque()  # not in the totals yet

    def succeeded(self, inference: Inference, duration_ns: int) -> None:
        """Count a request that was answered, and how long it took from its arrival on."""
        # Adding up nine sums a call costs more than keeping what is to be added.
        self._recent.append((inference, duration_ns, time.time_ns()))
        if len(self._recent) >= _MOST_RECENT:
            with self._lock:
                self._add_recent()

    def failed(self, duration_ns: int) -> None:
        """Count a request that failed."""
        with self._lock:
            self._totals.failures += 1
            self._totals.failure_ns += duration_ns

    def inherit(self, totals: Totals) -> None:
        """Add what another process has counted that isn't there any more."""
        with self._lock:
            self._totals = combined((self._totals, totals))

    def totals(self) -> Totals:
        """Return a copy of the sums so far."""
        with self._lock:
            self._add_recent()
            return replace(self._totals)

    def _add_recent(self) -> None:
        recent = [self._recent.popleft() for _ in range(len(self._recent))]
        if not recent:
            return
        inferences, durations, ends = zip(*recent, strict=True)
        samples, executions, input_ns, queue_ns, infer_ns, output_ns = map(sum, zip(*inferences, strict=True))
        totals = self._totals
        totals.successes += len(recent)
        totals.samples += samples
        totals.executions += executions
        totals.last_ms = max(totals.last_ms, max(ends) // 1_000_000)
        totals.success_ns += sum(durations)
        totals.input_ns += input_ns
        totals.queue_ns += queue_ns
        totals.infer_ns += infer_ns
        totals.output_ns += output_ns
